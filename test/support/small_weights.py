"""A published file of a few kilobytes. Its ids were made by `git hash-object` and `sha256sum`."""

from aopsam_ros.weights.known import Weights

CONTENT = bytes(range(256)) * 300
GIT_BLOB = "b0ae7e65ee352e982340b7abfee52b373b6d1673"
SHA256 = "f8b0585eb91f58c007a5634362c9f90d8543822c113f702523bc7b73408a9392"


def small_weights(url):
    return Weights("small", "small.pt", url, len(CONTENT), SHA256, GIT_BLOB, "MIT", "for tests")
