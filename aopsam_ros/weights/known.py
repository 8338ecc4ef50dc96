"""The table of published weights. Addresses on the internet stand here and nowhere else."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Weights:
    """A published file."""

    name: str  # what users call it
    file: str  # file name in the cache
    url: str  # where it is published
    size: int = 0  # bytes; 0: not published
    sha256: str = ""  # of its content, hexadecimal; "": not published
    # git's id of its content, as the publisher's repository lists it: the SHA-1 of "blob <size>", a
    # zero byte and the file; "": not published
    git_blob: str = ""
    licence: str = "Apache-2.0"  # SPDX identifier
    description: str = "for `aopsam export --checkpoint`"  # one line for `aopsam models list`
    about: int = 0  # bytes of its tensors, where no size is published

    @property
    def outcome(self) -> str:
        """What a check of its content tells."""
        return "verified" if self.sha256 or self.git_blob else "not verified: no hash is published"


_GITHUB = "https://github.com"
_META = "https://dl.fbaipublicfiles.com"
_SAM_2 = f"{_META}/segment_anything_2/092824"
_DRIVE = "https://drive.google.com/uc?export=download&id="
_EFFICIENT_SAM = "https://huggingface.co/yunyangx/EfficientSAM/resolve/main"
_EFFICIENT_TAM = "https://huggingface.co/yunyangx/efficient-track-anything/resolve/main"

# Size and SHA-256 of the files of a family, by what differs in their names.
_SAM_2_SIZES = {
    "tiny": (156_008_466, "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
    "small": (184_416_285, "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
    "base_plus": (323_606_802, "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5"),
    "large": (898_083_611, "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"),
}
_EFFICIENT_TAM_SIZES = {
    "ti": (71_616_316, "acbb17b28cca1f860acee09c9ecb6efdb732080dc7a85a07292c31813175fa7d"),
    "s": (136_375_868, "2b572be30d9e96ee29c8d785fe157c6b079ede7d56fbc8a3671d4120e63c89cd"),
    "ti_512x512": (71_620_052, "7d4d652a465f0081391050932f45d8a66768ccc99c8ea393ce8a5927e83f3b9b"),
    "s_512x512": (136_379_145, "67b5840012737ed2c94a4cb8787c5c1b27b3a946045d2e602e65ef77230b6085"),
}


def _weights(name: str, url: str, size: int = 0, sha256: str = "", git_blob: str = "") -> Weights:
    """Describe a file that its address names."""
    return Weights(name, url.rpartition("/")[2], url, size, sha256, git_blob)


def _family(folder: str, prefix: str, sizes: dict[str, tuple[int, str]]) -> list[Weights]:
    return [_weights(prefix + n, f"{folder}/{prefix}{n}.pt", *facts) for n, facts in sizes.items()]


KNOWN: dict[str, Weights] = {
    weights.name: weights
    for weights in (
        _weights(
            "mobile_sam",
            f"{_GITHUB}/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
            40_728_226,
            "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            "7ef2d090979fd9853adf17b7a99c8b94a1c5a6a7",
        ),
        _weights(
            "sam_vit_b",
            f"{_META}/segment_anything/sam_vit_b_01ec64.pth",
            375_042_383,
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        ),
        _weights(
            "sam_vit_l",
            f"{_META}/segment_anything/sam_vit_l_0b3195.pth",
            1_249_524_607,
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        ),
        _weights(
            "sam_vit_h",
            f"{_META}/segment_anything/sam_vit_h_4b8939.pth",
            2_564_550_879,
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        ),
        *_family(_SAM_2, "sam2.1_hiera_", _SAM_2_SIZES),
        _weights(
            "efficient_sam_vitt",
            f"{_GITHUB}/yformer/EfficientSAM/raw/main/weights/efficient_sam_vitt.pt",
            40_982_470,
            "dff858b19600a46461cbb7de98f796b23a7a888d9f5e34c0b033f7d6eb9e4e6a",
            "af883c49e33c68f01107be52df0ecad26a48355f",
        ),
        _weights(
            "efficient_sam_vits",
            f"{_EFFICIENT_SAM}/efficient_sam_vits.pt",
            105_742_022,
            "339376940b92351ae26dd1162e2305a1cc6f5cde735105e91286251abd9a6b65",
        ),
        Weights(
            "edge_sam",
            "edge_sam.pth",
            "https://huggingface.co/chongzhou/EdgeSAM/resolve/main/edge_sam.pth",
            38_807_540,
            "439b086a20ab6fba90c12cba32e0001ba3aa726da5791ff8738acdd440330991",
            licence="S-Lab-1.0 (non-commercial)",
        ),
        _weights(
            "edgetam",
            f"{_GITHUB}/facebookresearch/EdgeTAM/raw/main/checkpoints/edgetam.pt",
            56_116_523,
            "ed2d4850b8792c239689b043c47046ec239b6e808a3d9b6ae676c803fd8780df",
            "abd54d22bbd22ba3e53cf59a307e59e0f3701be6",
        ),
        *_family(_EFFICIENT_TAM, "efficienttam_", _EFFICIENT_TAM_SIZES),
        # NanoSAM's, as its README publishes them: neither size nor hash.
        Weights(
            "nanosam_encoder",
            "resnet18_image_encoder.onnx",
            f"{_DRIVE}14-SsvoaTl-esC3JOzomHDnI9OGgdO2OR",
            about=63_305_216,
            description="for `aopsam import --encoder`",
        ),
        Weights(
            "nanosam_decoder",
            "mobile_sam_mask_decoder.onnx",
            f"{_DRIVE}1jYNvnseTL49SNRx9PDcbkZ9DwsY8up7n",
            about=16_259_264,
            description="for `aopsam import --decoder`",
        ),
    )
}
