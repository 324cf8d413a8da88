"""The files of a `.mlpackage`: a model's protobuf message, its weights, and the manifest that names both."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coremltools import _SPECIFICATION_VERSION_IOS_18 as VERSION
from coremltools.converters.mil.backend.mil import helper
from coremltools.converters.mil.backend.mil.load import CoreMLProtoExporter, MILProtoExporter
from coremltools.converters.mil.mil import Program

from edgekit.converters.formats._coreml_weights import WeightFile

AUTHOR = "com.apple.CoreML"
PROGRAM = f"{AUTHOR}/model.mlmodel"
WEIGHTS = f"{AUTHOR}/weights"


class Exporter(MILProtoExporter):  # type: ignore[misc]
    """Constants point into a file of our own: one with a `weight_id` has a record there already."""

    def __init__(self, program: Program, weights: WeightFile) -> None:
        super().__init__(program, "", VERSION)
        self.weights = weights

    def get_milproto_value(self, var: Any) -> Any:
        return self.create_file_value(var) if var.op.weight_id else super().get_milproto_value(var)

    def create_file_value(self, var: Any) -> Any:
        return helper.create_file_value_tensor(
            file_name="@model_path/weights/weight.bin",
            offset=int(var.op.weight_id) if var.op.weight_id else self.weights.add_array(var.val),
            dim=var.val.shape,
            data_type=helper.types_to_proto_primitive(var.sym_type.get_primitive()),
        )


def message(functions: dict[str, Any], weights: WeightFile) -> Any:
    """A model of several functions, the first the default; their small constants are added to `weights`."""
    program = Program()
    for name, function in functions.items():
        program.add_function(name, function)
    program.default_function_name = next(iter(functions))
    program.export_as_multifunction = True
    exported = Exporter(program, weights).export()
    names = {"predicted_feature_name": None, "predicted_probabilities_name": None, "classifier_config": None}
    return CoreMLProtoExporter(
        program, exported, **names, convert_to="mlprogram", convert_from="milinternal",
        specification_version=VERSION,
    ).export(VERSION)  # fmt: skip


def save(path: Path, model: Any, weights: WeightFile, progress: Callable[[str, int, int], None]) -> None:
    """Writes the package `path`."""
    data = path / "Data"
    (data / WEIGHTS).mkdir(parents=True)
    weights.save(data / WEIGHTS / "weight.bin", progress)
    (data / PROGRAM).write_bytes(model.SerializeToString())
    items = {PROGRAM: "CoreML Model Specification", WEIGHTS: "CoreML Model Weights"}
    entries = {
        str(uuid.uuid5(uuid.NAMESPACE_URL, item)).upper(): {
            "author": AUTHOR,
            "description": description,
            "name": Path(item).name,
            "path": item,
        }
        for item, description in items.items()
    }
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": entries,
        "rootModelIdentifier": next(iter(entries)),
    }
    (path / "Manifest.json").write_text(json.dumps(manifest, indent=4) + "\n", "utf-8")
