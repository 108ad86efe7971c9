"""torchvision's transforms beside a torch that its compiled operators were not built for."""

import subprocess
import sys

SHAPE = '@torch.library.register_fake("torchvision::{0}")\ndef {0}(dets, scores, threshold):\n    return dets\n'
PACKAGE = {
    "__init__.py": "from torchvision import _meta_registrations\nfound = 1\n",
    "_meta_registrations.py": "import torch\n" + SHAPE.format("nms") + SHAPE.format("qnms"),
}


def test_torchvision_without_its_operators_is_imported(tmp_path):
    (tmp_path / "torchvision").mkdir()
    for name, text in PACKAGE.items():
        (tmp_path / "torchvision" / name).write_text(text)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import torch\n"
        "if not hasattr(torch.library, 'register_fake'): print('refused 1'); sys.exit()\n"
        "try:\n    import torchvision\nexcept RuntimeError as error:\n    print('refused', end=' ')\n"
        "from spikeattn.compat.timm_hook import import_torchvision\n"
        "import_torchvision()\n"
        "import torchvision; print(torchvision.found)\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert told.stdout == "refused 1\n", told.stderr
