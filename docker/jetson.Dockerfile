# The node on a Jetson, on NVIDIA's own image: CUDA and TensorRT are those of your JetPack.
# docs/install.md has the commands.
ARG BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0
FROM ${BASE}

ARG ROS_DISTRO=humble
# Release of github.com/ros-infrastructure/ros-apt-source, which adds ROS's package source and key.
ARG ROS_APT_SOURCE=1.1.0
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_CACHE_DIR=1 \
    ROS_DISTRO=${ROS_DISTRO} LANG=C.UTF-8
WORKDIR /ws

RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl \
    && codename="$(. /etc/os-release && echo "$VERSION_CODENAME")" \
    && releases=https://github.com/ros-infrastructure/ros-apt-source/releases/download \
    && curl -fsSL -o /tmp/ros.deb \
        "$releases/$ROS_APT_SOURCE/ros2-apt-source_$ROS_APT_SOURCE.${codename}_all.deb" \
    && dpkg -i /tmp/ros.deb && rm /tmp/ros.deb && apt-get update \
    && apt-get install -y --no-install-recommends "ros-$ROS_DISTRO-ros-base" build-essential \
        python3-colcon-common-extensions python3-pip python3-rosdep \
    && rm -rf /var/lib/apt/lists/*

COPY package.xml src/aopsam_ros/
COPY requirements/runtime.txt docker/install_onnxruntime.sh /tmp/
RUN apt-get update && rosdep init && rosdep update --rosdistro "$ROS_DISTRO" \
    && rosdep install --from-paths src --ignore-src -y --skip-keys python3-onnxruntime-pip \
    && /tmp/install_onnxruntime.sh /tmp/runtime.txt \
    && rm -rf /var/lib/apt/lists/*

COPY . src/aopsam_ros
RUN . "/opt/ros/$ROS_DISTRO/setup.sh" \
    && colcon build --packages-select aopsam_ros --cmake-args -DBUILD_TESTING=OFF \
    && rm -rf build log

# Engines are built on the board that runs them: keep them in a volume.
ENV AOPSAM_ENGINE_CACHE=/engines
VOLUME /engines

ENTRYPOINT ["/ws/src/aopsam_ros/docker/entrypoint.sh"]
CMD ["ros2", "launch", "aopsam_ros", "jetson.launch.py"]
