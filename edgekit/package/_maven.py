"""A folder that is a Maven repository of one library: what Gradle and Maven resolve by coordinates."""

from __future__ import annotations

import hashlib
from pathlib import Path

GROUP = "io.github.edgekit"
POM = """\
<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>{group}</groupId>
  <artifactId>{name}</artifactId>
  <version>{version}</version>
  <packaging>aar</packaging>
  <name>{name}</name>
  <description>Small language models on the device, in constant memory</description>
  <url>https://github.com/edgekit/edgekit</url>
  <licenses>
    <license>
      <name>Apache-2.0</name>
      <url>https://www.apache.org/licenses/LICENSE-2.0.txt</url>
    </license>
  </licenses>
  <dependencies>
{dependencies}
  </dependencies>
</project>
"""
DEPENDENCY = """\
    <dependency>
      <groupId>{}</groupId>
      <artifactId>{}</artifactId>
      <version>{}</version>
      <scope>compile</scope>
    </dependency>"""
METADATA = """\
<?xml version="1.0" encoding="UTF-8"?>
<metadata>
  <groupId>{group}</groupId>
  <artifactId>{name}</artifactId>
  <versioning>
    <latest>{version}</latest>
    <release>{version}</release>
    <versions>
      <version>{version}</version>
    </versions>
  </versioning>
</metadata>
"""


def write(repository: Path, name: str, version: str, aar: bytes, dependencies: list[str]) -> Path:
    """Writes `aar` as io.github.edgekit:NAME:VERSION, which needs `dependencies` (group:name:version); the
    .aar's path. Each file has its checksums beside it.
    """
    library = repository.joinpath(*GROUP.split("."), name)
    folder = library / version
    folder.mkdir(parents=True)
    words = {"group": GROUP, "name": name, "version": version}
    needed = "\n".join(DEPENDENCY.format(*one.split(":")) for one in dependencies)
    artifact = folder / f"{name}-{version}.aar"
    for path, data in {
        artifact: aar,
        artifact.with_suffix(".pom"): POM.format(dependencies=needed, **words).encode(),
        library / "maven-metadata.xml": METADATA.format(**words).encode(),
    }.items():
        path.write_bytes(data)
        for algorithm in ("md5", "sha1", "sha256", "sha512"):
            checksum = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
            path.with_name(f"{path.name}.{algorithm}").write_text(checksum)
    return artifact
