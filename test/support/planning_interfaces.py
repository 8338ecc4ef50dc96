"""Messages of nav2 and MoveIt for machines that have no such packages, with identical fields."""

import os
import subprocess
import sys

# Package: what it depends on, and its messages.
PACKAGES = {
    "nav_msgs": (
        ("builtin_interfaces", "geometry_msgs", "std_msgs"),
        {
            "MapMetaData": """
                builtin_interfaces/Time map_load_time
                float32 resolution
                uint32 width
                uint32 height
                geometry_msgs/Pose origin""",
            "OccupancyGrid": """
                std_msgs/Header header
                nav_msgs/MapMetaData info
                int8[] data""",
        },
    ),
    "shape_msgs": (
        ("geometry_msgs",),
        {
            "Mesh": """
                shape_msgs/MeshTriangle[] triangles
                geometry_msgs/Point[] vertices""",
            "MeshTriangle": "uint32[3] vertex_indices",
            "Plane": "float64[4] coef",
            "SolidPrimitive": """
                uint8 BOX=1
                uint8 SPHERE=2
                uint8 CYLINDER=3
                uint8 CONE=4
                uint8 PRISM=5
                uint8 type
                float64[<=3] dimensions
                geometry_msgs/Polygon polygon""",
        },
    ),
    "object_recognition_msgs": (
        ("std_msgs",),
        {
            "ObjectType": """
                string key
                string db"""
        },
    ),
    "moveit_msgs": (
        ("geometry_msgs", "object_recognition_msgs", "shape_msgs", "std_msgs"),
        {
            "CollisionObject": """
                std_msgs/Header header
                geometry_msgs/Pose pose
                string id
                object_recognition_msgs/ObjectType type
                shape_msgs/SolidPrimitive[] primitives
                geometry_msgs/Pose[] primitive_poses
                shape_msgs/Mesh[] meshes
                geometry_msgs/Pose[] mesh_poses
                shape_msgs/Plane[] planes
                geometry_msgs/Pose[] plane_poses
                string[] subframe_names
                geometry_msgs/Pose[] subframe_poses
                byte ADD=0
                byte REMOVE=1
                byte APPEND=2
                byte MOVE=3
                byte operation"""
        },
    ),
}
CMAKE = """
cmake_minimum_required(VERSION 3.16)
project({name})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
foreach(package {depends})
  find_package(${{package}} REQUIRED)
endforeach()
rosidl_generate_interfaces({name} {files} DEPENDENCIES {depends})
ament_export_dependencies(rosidl_default_runtime)
ament_package()
"""
MANIFEST = """<package format="3">
<name>{name}</name><version>0.0.0</version><description>messages for tests</description>
<maintainer email="a@b.invalid">tests</maintainer><license>Apache-2.0</license>
<buildtool_depend>ament_cmake</buildtool_depend>
<buildtool_depend>rosidl_default_generators</buildtool_depend>
{depends}<member_of_group>rosidl_interface_packages</member_of_group>
<export><build_type>ament_cmake</build_type></export></package>
"""
COLCON = "import sys; from colcon_core.command import main; sys.exit(main())"


def build(folder):
    """Build all packages in a folder; the environment variables that processes need for them."""
    for name, (depends, messages) in PACKAGES.items():
        source = folder / "src" / name
        (source / "msg").mkdir(parents=True)
        for message, lines in messages.items():
            text = "\n".join(line.strip() for line in lines.splitlines())
            (source / "msg" / f"{message}.msg").write_text(text + "\n")
        files = " ".join(f"msg/{message}.msg" for message in messages)
        joined = " ".join(depends)
        (source / "CMakeLists.txt").write_text(CMAKE.format(name=name, files=files, depends=joined))
        tags = "".join(f"<depend>{package}</depend>\n" for package in depends)
        (source / "package.xml").write_text(MANIFEST.format(name=name, depends=tags))
    command = [
        *(sys.executable, "-c", COLCON, "--log-base", str(folder / "log"), "build"),
        *("--base-paths", str(folder / "src"), "--build-base", str(folder / "build")),
        *("--install-base", str(folder / "install"), "--merge-install"),
        *("--cmake-args", "-DBUILD_TESTING=OFF", "-DCMAKE_BUILD_TYPE=Debug"),
        f"-DPython3_EXECUTABLE={sys.executable}",
        "-DPython3_FIND_VIRTUALENV=ONLY",
    ]
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (modules,) = (folder / "install").glob("lib/python*/site-packages")
    added = {"PYTHONPATH": modules, "LD_LIBRARY_PATH": folder / "install" / "lib"}
    added["AMENT_PREFIX_PATH"] = folder / "install"
    return {
        name: os.pathsep.join(filter(None, (str(path), os.environ.get(name))))
        for name, path in added.items()
    }
