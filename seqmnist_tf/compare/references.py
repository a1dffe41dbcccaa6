"""The references of a methods paragraph, in BibTeX, by key."""

from __future__ import annotations

REFERENCES = {
    "lecun1998": """@article{lecun1998,
  author  = {LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick},
  title   = {Gradient-based learning applied to document recognition},
  journal = {Proceedings of the IEEE}, volume = {86}, number = {11}, pages = {2278--2324}, year = {1998}
}""",
    "le2015": """@misc{le2015,
  author = {Le, Quoc V. and Jaitly, Navdeep and Hinton, Geoffrey E.},
  title  = {A simple way to initialize recurrent networks of rectified linear units},
  year   = {2015}, eprint = {1504.00941}, archiveprefix = {arXiv}
}""",
    "hochreiter1997": """@article{hochreiter1997,
  author  = {Hochreiter, Sepp and Schmidhuber, J{\\"u}rgen},
  title   = {Long short-term memory},
  journal = {Neural Computation}, volume = {9}, number = {8}, pages = {1735--1780}, year = {1997}
}""",
    "cho2014": """@inproceedings{cho2014,
  author    = {Cho, Kyunghyun and van Merri{\\"e}nboer, Bart and Gulcehre, Caglar and Bahdanau, Dzmitry and
               Bougares, Fethi and Schwenk, Holger and Bengio, Yoshua},
  title     = {Learning phrase representations using {RNN} encoder-decoder for statistical machine translation},
  booktitle = {EMNLP}, pages = {1724--1734}, year = {2014}
}""",
    "elman1990": """@article{elman1990,
  author  = {Elman, Jeffrey L.},
  title   = {Finding structure in time},
  journal = {Cognitive Science}, volume = {14}, number = {2}, pages = {179--211}, year = {1990}
}""",
    "wisdom2016": """@inproceedings{wisdom2016,
  author    = {Wisdom, Scott and Powers, Thomas and Hershey, John R. and Le Roux, Jonathan and Atlas, Les},
  title     = {Full-capacity unitary recurrent neural networks},
  booktitle = {NIPS}, year = {2016}
}""",
    "gu2022": """@inproceedings{gu2022,
  author    = {Gu, Albert and Goel, Karan and R{\\'e}, Christopher},
  title     = {Efficiently modeling long sequences with structured state spaces},
  booktitle = {ICLR}, year = {2022}
}""",
    "tallec2018": """@inproceedings{tallec2018,
  author    = {Tallec, Corentin and Ollivier, Yann},
  title     = {Can recurrent neural networks warp time?},
  booktitle = {ICLR}, year = {2018}
}""",
    "jim1996": """@article{jim1996,
  author  = {Jim, Kam-Chuen and Giles, C. Lee and Horne, Bill G.},
  title   = {An analysis of noise in recurrent neural networks: convergence and generalization},
  journal = {IEEE Transactions on Neural Networks}, volume = {7}, number = {6}, pages = {1424--1438}, year = {1996}
}""",
    "kingma2015": """@inproceedings{kingma2015,
  author    = {Kingma, Diederik P. and Ba, Jimmy},
  title     = {Adam: a method for stochastic optimization},
  booktitle = {ICLR}, year = {2015}
}""",
    "pascanu2013": """@inproceedings{pascanu2013,
  author    = {Pascanu, Razvan and Mikolov, Tomas and Bengio, Yoshua},
  title     = {On the difficulty of training recurrent neural networks},
  booktitle = {ICML}, pages = {1310--1318}, year = {2013}
}""",
    "loshchilov2017": """@inproceedings{loshchilov2017,
  author    = {Loshchilov, Ilya and Hutter, Frank},
  title     = {{SGDR}: stochastic gradient descent with warm restarts},
  booktitle = {ICLR}, year = {2017}
}""",
    "loshchilov2019": """@inproceedings{loshchilov2019,
  author    = {Loshchilov, Ilya and Hutter, Frank},
  title     = {Decoupled weight decay regularization},
  booktitle = {ICLR}, year = {2019}
}""",
    "polyak1992": """@article{polyak1992,
  author  = {Polyak, Boris T. and Juditsky, Anatoli B.},
  title   = {Acceleration of stochastic approximation by averaging},
  journal = {SIAM Journal on Control and Optimization}, volume = {30}, number = {4}, pages = {838--855}, year = {1992}
}""",
    "fisher1935": """@book{fisher1935,
  author = {Fisher, Ronald A.}, title = {The design of experiments}, publisher = {Oliver and Boyd}, year = {1935}
}""",
    "holm1979": """@article{holm1979,
  author  = {Holm, Sture},
  title   = {A simple sequentially rejective multiple test procedure},
  journal = {Scandinavian Journal of Statistics}, volume = {6}, number = {2}, pages = {65--70}, year = {1979}
}""",
    "tarone1990": """@article{tarone1990,
  author  = {Tarone, Robert E.},
  title   = {A modified {Bonferroni} method for discrete data},
  journal = {Biometrics}, volume = {46}, number = {2}, pages = {515--522}, year = {1990}
}""",
    "student1908": """@article{student1908,
  author  = {Student},
  title   = {The probable error of a mean},
  journal = {Biometrika}, volume = {6}, number = {1}, pages = {1--25}, year = {1908}
}""",
    "efron1987": """@article{efron1987,
  author  = {Efron, Bradley},
  title   = {Better bootstrap confidence intervals},
  journal = {Journal of the American Statistical Association}, volume = {82}, number = {397}, pages = {171--185},
  year    = {1987}
}""",
    "mcnemar1947": """@article{mcnemar1947,
  author  = {McNemar, Quinn},
  title   = {Note on the sampling error of the difference between correlated proportions or percentages},
  journal = {Psychometrika}, volume = {12}, number = {2}, pages = {153--157}, year = {1947}
}""",
}
