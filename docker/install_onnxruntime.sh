#!/usr/bin/env bash
# Installs the pinned ONNX Runtime beside a distribution's own NumPy, which its ROS modules were compiled against.
set -euo pipefail
requirements="$(mktemp)"
grep '^onnxruntime==' "$1" > "$requirements"
if python3 -c 'import numpy, sys; sys.exit(not numpy.__version__.startswith("1."))'; then
    echo 'numpy<2' >> "$requirements"
fi
python3 -m pip install -r "$requirements"
rm "$requirements"
