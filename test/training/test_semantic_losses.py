"""The semantic map's losses against hand-computed cases, and what they lead to."""

import math

import pytest

torch = pytest.importorskip("torch")

from aopsam_ros.training.semantic_losses import (  # noqa: E402
    CLASS_TEMPERATURE,
    ClassMeans,
    SemanticLosses,
    object_features,
    relation_loss,
    semantic_loss,
)

CUP, DOG = 11, 22  # class numbers


def directions(*degrees):
    angles = torch.tensor(degrees) * math.pi / 180
    return torch.stack([torch.cos(angles), torch.sin(angles)], 1)


def test_maps_are_compared_by_direction():
    target = torch.randn(1, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    centre = target.mean((0, 2, 3), keepdim=True)
    same = semantic_loss(centre + 3 * (target - centre), target).item()
    assert same == pytest.approx(0, abs=1e-5)
    assert semantic_loss(2 * centre - target, target).item() == pytest.approx(2, abs=1e-5)


def test_an_object_is_the_mean_of_what_it_covers():
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2)
    masks = torch.zeros(1, 3, 4, 4)
    masks[0, 0, :, :2] = 1  # the left half: 1 and 3
    masks[0, 1, 0, 2] = 1  # a quarter of the second cell and nothing else
    masks[0, 2, :2, 0] = 0.5  # half covered pixels weigh half, but of one cell only
    assert object_features(features, masks).flatten().tolist() == pytest.approx([2, 2, 1])


def test_relations_ask_which_objects_look_alike():
    teacher = directions(0, 10, 90)
    assert relation_loss(teacher, teacher).item() == pytest.approx(0, abs=1e-6)
    swapped = relation_loss(teacher[[2, 1, 0]], teacher)
    assert swapped > relation_loss(directions(5, 10, 80), teacher) > 0


def test_an_object_is_drawn_to_the_mean_of_its_class():
    """Two classes at right angles, then an object at 30 degrees of the first one's mean."""
    means = ClassMeans()
    first = means.loss(directions(0, 90), torch.tensor([CUP, DOG]))
    assert first.item() == 0  # nothing had been seen
    found = means.loss(directions(30), torch.tensor([CUP])).item()
    odds = math.exp((math.sin(math.pi / 6) - math.cos(math.pi / 6)) / CLASS_TEMPERATURE)
    assert found == pytest.approx(math.log1p(odds), rel=1e-4)


def test_objects_without_a_class_cost_and_teach_nothing():
    means = ClassMeans()
    means.loss(directions(0, 90), torch.tensor([CUP, DOG]))
    before = means.loss(directions(30), torch.tensor([CUP]))
    fresh = ClassMeans()
    fresh.loss(directions(0, 45, 90), torch.tensor([CUP, 0, DOG]))
    assert fresh.loss(directions(45), torch.tensor([0])).item() == 0
    assert fresh.loss(directions(30), torch.tensor([CUP])).item() == before.item()


def test_the_map_learns_to_tell_classes_apart():
    """A linear map of features in which two classes differ by little beside what they share."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.randn(4, 6, 4, 4, generator=generator)
    classes = torch.tensor([[CUP, DOG]] * 4)
    masks = torch.zeros(4, 2, 32, 32)
    masks[:, 0, :, :16], masks[:, 1, :, 16:] = 1, 1
    cells[:, 0, :, :2] += 0.2
    cells[:, 0, :, 2:] -= 0.2
    cells[:, 1] += 2
    head = torch.nn.Conv2d(6, 6, 1, bias=False)
    torch.nn.init.dirac_(head.weight)
    losses = SemanticLosses(lambda image: [cells[: len(image)]], views=2)

    def parts():
        return losses(torch.zeros(4, 3, 128, 128), head(cells), masks, classes)

    assert set(parts()) == {"semantic", "objects", "relations", "classes"}
    optimizer = torch.optim.Adam(head.parameters(), 0.02)
    course = []
    for _ in range(60):
        loss = parts()["classes"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        course.append(loss.item())
    assert course[-1] < 0.5 * course[0]


def test_means_survive_a_checkpoint():
    means, copy = ClassMeans(), ClassMeans()
    means.loss(directions(0, 20, 90), torch.tensor([CUP, CUP, DOG]))
    copy.restore(means.state())
    for _ in range(2):  # the second time after both have learnt from the first
        pair = [m.loss(directions(30), torch.tensor([CUP])).item() for m in (means, copy)]
        assert pair[0] == pair[1] > 0
    ClassMeans().restore(ClassMeans().state())
