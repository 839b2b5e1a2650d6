"""Install from `settings.ini`, the one place where nbdev and pip both read names, versions and pins."""
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    keywords=cfg["keywords"],
    license="Apache-2.0",
    classifiers=["Programming Language :: Python :: 3", "License :: OSI Approved :: Apache Software License", "Intended Audience :: Science/Research"],
    python_requires=f">={cfg['min_python']},<3.14",
    # data/ and nbs/ stay at the top level for readers; installed, they travel inside the package
    packages=["bizzaroworld", "bizzaroworld.data", "bizzaroworld.book"],
    package_dir={"bizzaroworld.data": "data", "bizzaroworld.book": "nbs"},
    package_data={"bizzaroworld.data": ["*.csv", "*.json", "shapes/*.json", "bench/*.json", "jobs/*"],
                  "bizzaroworld.book": ["*.ipynb", "*.md", "*.css", "reports/*.ipynb", "site/*"]},
    install_requires=cfg["requirements"].split(),
    extras_require={"embedded": cfg["embedded_requirements"].split(), "bits": cfg["bits_requirements"].split(), "dask": cfg["dask_requirements"].split(), "slurm": cfg["slurm_requirements"].split(), "bench": cfg["bench_requirements"].split(), "dev": cfg["dev_requirements"].split()},
    entry_points={"console_scripts": cfg["console_scripts"].split(), "nbdev": ["bizzaroworld=bizzaroworld._modidx:d"]},
)
