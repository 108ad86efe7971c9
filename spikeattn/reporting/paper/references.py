"""The sources that a methods paragraph cites, as BibTeX, and which of them a text or a data set names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from spikeattn.reporting.paper.own_entry import KEY, own_entry

_SHORTENED = {"Horowitz": "horowitz2014", "SENECA": "tang2023", "syops": "syops", "SpikingJelly": "fang2023"}
_DATA = {
    "imagenet": "russakovsky2015",
    "cifar10": "krizhevsky2009",
    "digits": "alpaydin1998",
    "digits-events": "alpaydin1998",
    "digits-scenes": "alpaydin1998",
    "nmnist": "orchard2015",
    "nmnist_sample": "orchard2015",
    "dvs128-gesture": "amir2017",
    "cifar10-dvs": "li2017",
}

REFERENCES: dict[str, str] = {
    KEY: own_entry(None),
    "yao2023": r"""@inproceedings{yao2023,
  author    = {Yao, Man and Hu, Jiakui and Zhou, Zhaokun and Yuan, Li and Tian, Yonghong and Xu, Bo and Li, Guoqi},
  title     = {Spike-driven {T}ransformer},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {36},
  year      = {2023},
  note      = {arXiv:2307.01694},
}""",
    "zhou2023spikformer": r"""@inproceedings{zhou2023spikformer,
  author    = {Zhou, Zhaokun and Zhu, Yuesheng and He, Chao and Wang, Yaowei and Yan, Shuicheng and Tian, Yonghong
               and Yuan, Li},
  title     = {Spikformer: When Spiking Neural Network Meets {T}ransformer},
  booktitle = {International Conference on Learning Representations},
  year      = {2023},
  note      = {arXiv:2209.15425},
}""",
    "zhou2023spikingformer": r"""@misc{zhou2023spikingformer,
  author = {Zhou, Chenlin and Yu, Liutao and Zhou, Zhaokun and Ma, Zhengyu and Zhang, Han and Zhou, Huihui and Tian,
            Yonghong},
  title  = {Spikingformer: Spike-driven Residual Learning for {T}ransformer-based Spiking Neural Network},
  year   = {2023},
  note   = {arXiv:2304.11954},
}""",
    "yao2024": r"""@inproceedings{yao2024,
  author    = {Yao, Man and Hu, JiaKui and Hu, Tianxiang and Xu, Yifan and Zhou, Zhaokun and Tian, Yonghong and Xu, Bo
               and Li, Guoqi},
  title     = {Spike-driven {T}ransformer {V2}: Meta Spiking Neural Network Architecture Inspiring the Design of
               Next-generation Neuromorphic Chips},
  booktitle = {International Conference on Learning Representations},
  year      = {2024},
  note      = {arXiv:2404.03663},
}""",
    "yan2024": r"""@misc{yan2024,
  author = {Yan, Zhanglu and Bai, Zhenyu and Tang, Kaiwen and Wong, Weng-Fai},
  title  = {Reconsidering the Energy Efficiency of Spiking Neural Networks Inference from Analytical Perspectives},
  year   = {2024},
  note   = {arXiv:2409.08290, version 4 of 2026},
}""",
    "horowitz2014": r"""@inproceedings{horowitz2014,
  author    = {Horowitz, Mark},
  title     = {1.1 {C}omputing's energy problem (and what we can do about it)},
  booktitle = {IEEE International Solid-State Circuits Conference (ISSCC), Digest of Technical Papers},
  pages     = {10--14},
  year      = {2014},
  note      = {doi:10.1109/ISSCC.2014.6757323},
}""",
    "tang2023": r"""@article{tang2023,
  author  = {Tang, Guangzhi and Vadivel, Kanishkan and Xu, Yingfu and Bilgic, Refik and Shidqi, Kevin and Detterer, Paul
             and Traferro, Stefano and Konijnenburg, Mario and Sifalakis, Manolis and van Schaik, Gert-Jan and
             Yousefzadeh, Amirreza},
  title   = {{SENECA}: building a fully digital neuromorphic processor, design trade-offs and challenges},
  journal = {Frontiers in Neuroscience},
  volume  = {17},
  pages   = {1187252},
  year    = {2023},
  note    = {doi:10.3389/fnins.2023.1187252},
}""",
    "fang2023": r"""@article{fang2023,
  author  = {Fang, Wei and Chen, Yanqi and Ding, Jianhao and Yu, Zhaofei and Masquelier, Timoth{\'e}e and Chen, Ding and
             Huang, Liwei and Zhou, Huihui and Li, Guoqi and Tian, Yonghong},
  title   = {{SpikingJelly}: An open-source machine learning infrastructure platform for spike-based intelligence},
  journal = {Science Advances},
  volume  = {9},
  number  = {40},
  pages   = {eadi1480},
  year    = {2023},
  note    = {doi:10.1126/sciadv.adi1480},
}""",
    "wightman2019": r"""@misc{wightman2019,
  author = {Wightman, Ross},
  title  = {{PyTorch} Image Models},
  year   = {2019},
  note   = {doi:10.5281/zenodo.4414861},
}""",
    "syops": r"""@misc{syops,
  author = {Chen, Guangyao},
  title  = {syops-counter: synaptic operations counter for spiking neural networks},
  year   = {2023},
  note   = {Software, version 0.0.5},
}""",
    "russakovsky2015": r"""@article{russakovsky2015,
  author  = {Russakovsky, Olga and Deng, Jia and Su, Hao and Krause, Jonathan and Satheesh, Sanjeev and Ma, Sean and
             Huang, Zhiheng and Karpathy, Andrej and Khosla, Aditya and Bernstein, Michael and Berg, Alexander C. and
             Fei-Fei, Li},
  title   = {{ImageNet} Large Scale Visual Recognition Challenge},
  journal = {International Journal of Computer Vision},
  volume  = {115},
  number  = {3},
  pages   = {211--252},
  year    = {2015},
}""",
    "krizhevsky2009": r"""@techreport{krizhevsky2009,
  author      = {Krizhevsky, Alex},
  title       = {Learning Multiple Layers of Features from Tiny Images},
  institution = {University of Toronto},
  year        = {2009},
}""",
    "alpaydin1998": r"""@misc{alpaydin1998,
  author = {Alpaydin, E. and Kaynak, C.},
  title  = {Optical Recognition of Handwritten Digits},
  year   = {1998},
  note   = {UCI Machine Learning Repository, doi:10.24432/C50P49},
}""",
    "orchard2015": r"""@article{orchard2015,
  author  = {Orchard, Garrick and Jayawant, Ajinkya and Cohen, Gregory K. and Thakor, Nitish},
  title   = {Converting Static Image Datasets to Spiking Neuromorphic Datasets Using Saccades},
  journal = {Frontiers in Neuroscience},
  volume  = {9},
  pages   = {437},
  year    = {2015},
}""",
    "amir2017": r"""@inproceedings{amir2017,
  author    = {Amir, Arnon and Taba, Brian and Berg, David and Melano, Timothy and McKinstry, Jeffrey and {Di Nolfo},
               Carmelo and Nayak, Tapan and Andreopoulos, Alexander and Garreau, Guillaume and Mendoza, Marcela and
               Kusnitz, Jeff and Debole, Michael and Esser, Steve and Delbruck, Tobi and Flickner, Myron and Modha,
               Dharmendra},
  title     = {A Low Power, Fully Event-Based Gesture Recognition System},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  year      = {2017},
  note      = {doi:10.1109/CVPR.2017.781},
}""",
    "li2017": r"""@article{li2017,
  author  = {Li, Hongmin and Liu, Hanchao and Ji, Xiangyang and Li, Guoqi and Shi, Luping},
  title   = {{CIFAR10-DVS}: An Event-Stream Dataset for Object Classification},
  journal = {Frontiers in Neuroscience},
  volume  = {11},
  pages   = {309},
  year    = {2017},
}""",
}


def keys_in(text: str) -> list[str]:
    """Keys of the sources that a sentence names, by arXiv number or name, in the order of `REFERENCES`."""
    numbers = {match.group(1): key for key, entry in REFERENCES.items() if (match := _ARXIV.search(entry))}
    found = {key for number, key in numbers.items() if number in text}
    found |= {key for name, key in _SHORTENED.items() if name in text}
    return [key for key in REFERENCES if key in found]


def keys_of_data(name: str) -> list[str]:
    """Key of a data set's source by the data set's short name; none for a folder of one's own."""
    return [_DATA[name]] if name in _DATA else []


def bibliography(keys: Iterable[str], version: str | None = None) -> str:
    """The entries of the keys as a .bib file, each once.

    Args:
        version: of spikeattn, that the run was counted with.
    """
    entries = REFERENCES | {KEY: own_entry(version)}
    return "\n\n".join(entries[key] for key in dict.fromkeys(keys)) + "\n"


_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{5})")
