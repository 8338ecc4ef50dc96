"""The subcommands of `aopsam`: one module each, imported only when it is the one to run.

A module has `add_arguments(parser)` and `run(arguments)`, which may return an exit code, and raises
an `AopsamError` for what the user did wrong or has not installed.
"""

# A subcommand's line in the help, by its name; its module has that name with underscores,
# and one more where it would be a keyword.
COMMANDS: dict[str, str] = {
    "segment": "find the masks of images",
    "models": "list, fetch or verify models",
    "evaluate": "measure on labelled images",
    "labels": "make a label set from labelled images, for masks with names",
    "tune": "search the options for your own images",
    "calibrate": "fit a model bundle's scores on labelled images",
    "label-unlabelled": "label more of labelled images by the model itself (needs torch)",
    "train-segmenter": "train a small SAM-shaped model (needs torch)",
    "train-predictor": "train a Prompt Predictor for it or for MobileSAM (needs torch)",
    "distill": "train a small encoder to a model's embeddings, without labels (needs torch)",
    "export": "turn checkpoints into a model bundle (needs torch)",
    "import": "turn ONNX graphs that others exported into a model bundle",
    "add-prompter": "let a model bundle take its prompts from another model's predictor",
    "build-engines": "build a bundle's TensorRT engines beforehand",
    "quantize": "add encoder and predictor in 8 bits, for a CPU, to a model bundle",
    "bench": "measure times, floors, ROS and memory",
    "demo": "run the ROS node on photographs, leave a report",
}
