"""`aopsam build-engines`."""

from aopsam_ros.cli import main
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.registry import create_engine


def test_engines_are_built_verified_and_found_again(
    modern_gpu, bundle, tmp_path, monkeypatch, capfd
):
    modern_gpu.install(monkeypatch)
    modern_gpu.faults.wrong_half = ("confidence_map",)
    out = tmp_path / "image"
    assert main(["build-engines", str(bundle.folder), "--out", str(out)]) == 0
    assert capfd.readouterr().out.splitlines() == [
        "encoder: fp16, chosen by TensorRT",
        "prompt_predictor: fp32",
        "mask_decoder: fp16, chosen by TensorRT",
        str(out),
    ]
    count = len(modern_gpu.builds)
    monkeypatch.setenv("AOPSAM_ENGINE_CACHE", str(out))
    engine = create_engine(bundle, EngineOptions(engine="tensorrt"))
    assert (len(modern_gpu.builds), engine.precision) == (count, "fp16 but prompt_predictor")
    engine.close()


def test_where_engines_cannot_be_kept_none_is_built(
    modern_gpu, bundle, tmp_path, monkeypatch, refused
):
    modern_gpu.install(monkeypatch)
    (tmp_path / "file").write_text("")
    assert "File exists" in refused("build-engines", bundle.folder, "--out", tmp_path / "file")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert "every user can write" in refused(
        "build-engines", bundle.folder, "--out", tmp_path / "open"
    )
    assert not modern_gpu.builds


def test_without_a_gpu_it_is_one_clear_line(bundle, monkeypatch, refused):
    monkeypatch.setattr("aopsam_ros.engines.tensorrt.cuda.LIBRARY", "libcuda-not-there.so.1")
    error = refused("build-engines", bundle.folder)
    assert error.startswith("aopsam: error: no NVIDIA driver")
