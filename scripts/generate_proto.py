"""Make the Python beside `llm.proto`: `python scripts/generate_proto.py [OUTPUT_ROOT]`.

The include root is the repository, so that the module's place in the package is also its name in protobuf's
descriptor pool and clashes with no other `llm.proto`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = "dreamseed_cli/gateway/proto/llm.proto"


def generate(output_root: Path) -> None:
    """Write llm_pb2.py and llm_pb2.pyi below `output_root`; RuntimeError if protoc fails."""
    arguments = ["protoc", f"-I{ROOT}", f"--python_out={output_root}", f"--pyi_out={output_root}", PROTO]
    status = protoc.main(arguments)
    if status:
        raise RuntimeError(f"protoc ended with status {status}")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
