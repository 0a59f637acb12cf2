"""The figures and tables of the paper, each a Script: options, a plan of runs, and a report of their records.

scripts.py   what each of them says of itself; options, their defaults and checks
command.py   what all of them share: folders, training, report, exit status
figure2.py   class imbalance on MNIST
cifar.py     schedules and tasks of all others
networks.py  their networks
grids.py     Tables 1 and 2, Figures 3 to 7
figure3.py   the example weights of Figure 3
"""
