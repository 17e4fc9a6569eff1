"""Builds the kernel with whatever C++ compiler there is; instructions are chosen when it runs, not here."""

import atexit
import shutil
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
SCRATCH = Path(tempfile.mkdtemp(prefix="voiced-native-"))  # nothing is left beside the sources
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
FLAGS = [
    "-O3",
    "-std=gnu++17",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    "-g0",
]


class BuildKernel(build_ext):
    """A plain library behind a C interface: it knows nothing of Python, so one serves every version of it."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"


class PackageAlone(build_py):
    """This file lies among the modules of the package and is none of them."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = super().find_package_modules(package, package_dir)
        return [row for row in found if row[1] != "setup"]


class AnyPython(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    options={"build": {"build_base": str(SCRATCH)}, "egg_info": {"egg_base": str(SCRATCH)}},
    packages=["voiced_native"],
    package_dir={"voiced_native": "."},
    ext_modules=[
        Extension(
            "voiced_native.kernel",
            sorted(str(path.relative_to(HERE)) for path in HERE.glob("kernel/*.cpp")),
            depends=sorted(str(path.relative_to(HERE)) for path in HERE.glob("kernel/*.h")),
            include_dirs=["kernel"],
            extra_compile_args=[*FLAGS, "-pthread"],
            extra_link_args=["-pthread"],
            language="c++",
        )
    ],
    cmdclass={"build_py": PackageAlone, "build_ext": BuildKernel, "bdist_wheel": AnyPython},
)
