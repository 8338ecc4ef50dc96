"""Losses of the semantic map: it keeps ImageNet's meaning, and is to tell named things apart."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

TEACHER_VIEWS = 4  # of a step: the teacher's pass costs as much as a fifth of training one
CLASS_TEMPERATURE, RELATION_TEMPERATURE = 0.1, 0.07  # of cosines in a softmax
SLOWEST_MEAN = 0.02  # least share that a new example has in its class's mean


class SemanticLosses:
    """What teaches the semantic map: a frozen teacher, and the classes that data sets name.

    In a run of several processes each compares what it sees itself. The teacher looks at so many
    `views` of a batch, `[B, 3, H, W]`; the last of its features has the map's shape.
    """

    def __init__(self, teacher: nn.Module, views: int = TEACHER_VIEWS) -> None:
        self.teacher = teacher
        self._views = max(1, views)
        self.classes = ClassMeans()

    @torch.no_grad()
    def wanted(self, image: Tensor) -> Tensor:
        """Return the teacher's map of images."""
        return self.teacher(image)[-1]

    def __call__(
        self, image: Tensor, found: Tensor, masks: Tensor, classes: Tensor
    ) -> dict[str, Tensor]:
        """Return the weighted losses of a batch by name.

        Args:
            image: normalised, `[B, 3, H, W]`.
            found: the student's map, `[B, D, H/32, W/32]`.
            masks: what was prompted, coverage 0-1, `[B, N, H/4, W/4]`.
            classes: a number of each one's class, `[B, N]`; 0 where it has none.
        """
        some = slice(0, self._views)
        wanted = self.wanted(image[some])
        objects, centre = object_features(found, masks), wanted.mean((0, 2, 3))
        student = F.normalize(objects[some] - centre, dim=2).flatten(0, 1)
        teacher = F.normalize(object_features(wanted, masks[some]) - centre, dim=2).flatten(0, 1)
        return {
            "semantic": 4.0 * semantic_loss(found[some], wanted),
            "objects": 2.0 * (1 - (student * teacher).sum(1)).mean(),
            "relations": 3.0 * relation_loss(student, teacher),
            "classes": 0.3 * self.classes.loss(objects.flatten(0, 1), classes.flatten()),
        }


class ClassMeans:
    """Running mean features of named things: a thing is to be nearest to its own class's mean.

    That is how a label set uses the map. The means are no parameters: they follow what they see.
    """

    def __init__(self) -> None:
        self._place: dict[int, int] = {}
        self._means: list[Tensor] = []
        self._seen: list[int] = []

    def state(self) -> dict[str, Tensor]:
        """Return numbers, means and how often each was seen, as a checkpoint keeps them."""
        means = torch.stack(self._means) if self._means else torch.zeros(0)
        seen, numbers = torch.tensor(self._seen), torch.tensor(list(self._place))
        return {"numbers": numbers, "means": means, "seen": seen}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take the place of what was seen; raises `KeyError` if something is missing."""
        self._place = {number: i for i, number in enumerate(state["numbers"].tolist())}
        self._means, self._seen = list(state["means"]), state["seen"].tolist()

    def loss(self, objects: Tensor, classes: Tensor) -> Tensor:
        """Compare objects' features `[n, D]` of classes `[n]` with all means, then update these.

        Returns:
            Cross entropy over the classes that have been seen before; 0 without any such object.
        """
        named = classes > 0
        features = F.normalize(objects[named], dim=1)
        numbers = classes[named].tolist()
        known = [i for i, number in enumerate(numbers) if number in self._place]
        loss = objects.new_zeros(())
        if known and len(self._means) > 1:
            cosines = features[known] @ F.normalize(torch.stack(self._means), dim=1).T
            places = torch.tensor([self._place[numbers[i]] for i in known], device=objects.device)
            loss = F.cross_entropy(cosines / CLASS_TEMPERATURE, places)
        self._update(features.detach(), numbers)
        return loss

    def _update(self, features: Tensor, numbers: list[int]) -> None:
        for feature, number in zip(features, numbers, strict=True):
            place = self._place.setdefault(number, len(self._means))
            if place == len(self._means):
                self._means.append(feature)
                self._seen.append(0)
            self._seen[place] += 1
            share = max(1 / self._seen[place], SLOWEST_MEAN)
            self._means[place] = torch.lerp(self._means[place], feature, share)


def object_features(features: Tensor, masks: Tensor) -> Tensor:
    """Average features `[B, D, h, w]` over masks `[B, N, H, W]` of a larger grid: `[B, N, D]`."""
    weight = F.avg_pool2d(masks, masks.shape[-1] // features.shape[-1])
    weight = weight / weight.sum((2, 3), keepdim=True).clamp(min=1e-3)
    return torch.einsum("bdhw,bnhw->bnd", features, weight)


def relation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Divergence of which of a teacher's objects each one resembles; unit features `[n, D]`."""
    wanted = F.log_softmax(teacher @ teacher.T / RELATION_TEMPERATURE, dim=1)
    found = F.log_softmax(student @ teacher.T / RELATION_TEMPERATURE, dim=1)
    return F.kl_div(found, wanted, log_target=True, reduction="batchmean")


def semantic_loss(found: Tensor, target: Tensor) -> Tensor:
    """One minus the cosine of features `[B, D, h, w]`, centred by the target's channel means."""
    centre = target.mean((0, 2, 3), keepdim=True)
    return (1 - F.cosine_similarity(found - centre, target - centre, dim=1)).mean()
