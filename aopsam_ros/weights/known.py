"""The table of published weights. Addresses on the internet stand here and nowhere else."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Weights:
    """A published file."""

    name: str  # what users call it
    file: str  # file name in the cache
    url: str  # where it is published
    size: int  # bytes
    sha256: str  # of its content, hexadecimal
    # git's id of its content, as the publisher's repository lists it: the SHA-1 of "blob <size>", a
    # zero byte and the file
    git_blob: str
    licence: str  # SPDX identifier
    description: str  # one line for `aopsam models list`


KNOWN: dict[str, Weights] = {
    "mobile_sam": Weights(
        name="mobile_sam",
        file="mobile_sam.pt",
        url="https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
        size=40_728_226,
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        git_blob="7ef2d090979fd9853adf17b7a99c8b94a1c5a6a7",
        licence="Apache-2.0",
        description="MobileSAM, for `aopsam export --checkpoint`",
    )
}
