"""Let a CUDA build of torchvision be imported under a CPU-only torch; copied into site-packages by make_environment.sh.

Its compiled operators cannot be loaded there, and its import fails for want of `nms`, which it describes in Python. The
operator is declared before torchvision is imported, without an implementation: nothing in vLLM's LLaVA calls it.
"""

import importlib.abc
import sys


class _DeclareOperators(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None:
                self.library = torch.library.Library("torchvision", "FRAGMENT")
                boxes = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                for operator in ("nms", "qnms"):
                    self.library.define(operator + boxes)
        return None


_finder = _DeclareOperators()
sys.meta_path.insert(0, _finder)
