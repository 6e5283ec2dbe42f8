"""Make the Python beside the `.proto` files: `python scripts/generate_proto.py [OUTPUT_ROOT]`.

The include root is the repository, so that a module's place in the package is also its name in protobuf's
descriptor pool and clashes with no other `llm.proto`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ("dreamseed_cli/gateway/proto/llm.proto", "dreamseed_cli/gateway/proto/front.proto")


def generate(output_root: Path) -> None:
    """Write a `_pb2.py` and a `_pb2.pyi` for each below `output_root`; RuntimeError if protoc fails."""
    arguments = ["protoc", f"-I{ROOT}", f"--python_out={output_root}", f"--pyi_out={output_root}", *PROTOS]
    status = protoc.main(arguments)
    if status:
        raise RuntimeError(f"protoc ended with status {status}")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
