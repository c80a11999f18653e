# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Build with colcon (ament_python) or pip."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

MANIFEST = ElementTree.parse('package.xml').getroot()
NAME = MANIFEST.findtext('name')


def installed(folder: str, target: str) -> list[tuple[str, list[str]]]:
    """List the files of a folder and its subfolders as data files below the share folder."""
    groups: dict[str, list[str]] = {}
    for path in sorted(Path(folder).rglob('*')):
        if path.is_file() and '__pycache__' not in path.parts:
            groups.setdefault(f'{target}/{path.parent.as_posix()}', []).append(path.as_posix())
    return list(groups.items())


setup(
    name=NAME,
    version=MANIFEST.findtext('version'),
    description=MANIFEST.findtext('description'),
    long_description=Path('README.md').read_text(encoding='utf-8') if Path('README.md').is_file() else '',
    long_description_content_type='text/markdown',
    author='The inspatio_ros authors',
    maintainer=MANIFEST.findtext('maintainer'),
    maintainer_email=MANIFEST.find('maintainer').get('email'),
    license=MANIFEST.findtext('license'),
    license_files=['LICENSE'],
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: ['weights/**/*', 'ros/*.xml']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        # `ros2 run` and launch look here; pip would put an entry point elsewhere.
        (f'lib/{NAME}', ['scripts/inspatio_node']),
        *installed('launch', f'share/{NAME}'),
        *installed('config', f'share/{NAME}'),
        *installed('rviz', f'share/{NAME}'),
    ],
    python_requires='>=3.11',
    install_requires=[
        'av', 'matplotlib', 'numba', 'numpy', 'opencv-python-headless', 'pillow', 'pyyaml', 'rosbags', 'safetensors',
        'scipy', 'tensorboard', 'torch>=2.6', 'tqdm', 'transforms3d',
        'open3d-cpu; platform_machine == "x86_64"', 'open3d; platform_machine != "x86_64"',
    ],
    extras_require={'test': ['colcon-common-extensions', 'ftfy', 'hypothesis', 'psutil', 'pytest', 'pytest-timeout',
                             'ruff']},
    entry_points={'console_scripts': ['inspatio = inspatio_ros.cli:main']},
    zip_safe=False,
)
