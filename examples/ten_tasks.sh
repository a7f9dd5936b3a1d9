#!/usr/bin/env bash
# Ten tasks of a new user, each from one page of the documentation, in tiny sizes.
#
#     bash examples/ten_tasks.sh             # all, in a new folder ten-tasks/; about a minute on one core
#     bash examples/ten_tasks.sh FOLDER 2 6  # some, in a folder of your own
#
# It needs no network, and an environment with `python -m pip install -e ".[report]"`. It ends with status 1 at
# the first failure. What it prints is in ten_tasks.txt, without paths and seconds:
#
#     bash examples/ten_tasks.sh | sed -E -f examples/ten_tasks.sed > examples/ten_tasks.txt
#
# The sizes are far too small for the scores to mean anything.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-ten-tasks}
shift || true
tasks=${*:-1 2 3 4 5 6 7 8 9 10}
mkdir -p "$work" && cd "$work"

# Print a command as it is typed, then run it. Of its standard error, print messages, not progress bars.
typed() {
    local word line='$'
    for word; do [[ $word = *' '* ]] && line+=" \"$word\"" || line+=" $word"; done
    printf '%s\n' "${line//"$here"/examples}"
    "$@" 2>errors.txt || { echo "failed with status $?" && cat errors.txt && exit 1; }
    messages
}
messages() { tr '\r' '\n' <errors.txt | grep -E '^(noisynets|runs/[a-z]+):' || true; }

# Write a file that the user types, and print it.
written() { tee "$1" | sed "1i\$ cat $1"; }

# Require that files are there and not empty.
made() { for file; do [ -s "$file" ] || { echo "missing: $file" && exit 1; }; done; }

task_1() { # I have a model and a loop in PyTorch, and want to train it by pairs of forward passes.
    # README.md, "In Python"; docs/how-to/own-loop.md
    written own_model.py <<'PY'
import torch
from torch import nn
from noisynets import NodePerturbation

torch.manual_seed(0)
x = torch.randn(600, 6)
y = x[:, :3].argmax(1)
model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 3))
estimator = NodePerturbation(model, nn.CrossEntropyLoss(reduction="none"))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(4):
    for index in torch.randperm(500).split(50):
        optimizer.zero_grad()
        estimator(x[index], y[index])  # was: loss(model(x[index]), y[index]).mean().backward()
        optimizer.step()
print(f"accuracy on new points {(model(x[500:]).argmax(1) == y[500:]).float().mean():.2f}")
torch.save(model.state_dict(), "own_model.pt")
PY
    typed python own_model.py
    made own_model.pt
}

task_2() { # I have a table of measurements in a CSV file, and want a network that predicts the class.
    # docs/how-to/data.md, "Files of your own"; docs/how-to/runs.md, "Predictions"
    written metals.py <<'PY'
import random

random.seed(0)
means = {"brass": (0, 2, 1), "steel": (2, 0, 1), "tin": (1, 1, 0)}
with open("metals.csv", "w") as file:
    print("weight,length,width,target", file=file)
    for metal in list(means) * 100:
        print(*(f"{random.gauss(mean, 0.4):.3f}" for mean in means[metal]), metal, sep=",", file=file)
PY
    typed python metals.py
    typed noisynets train arrays:metals.csv --hidden 16 --lr 0.01 --batch-size 20 --epochs 10 --out runs/metals
    typed noisynets predict runs/metals metals.csv --out predictions.csv
    typed head -n 3 predictions.csv
    made runs/metals/{config.json,metrics.csv,summary.json,checkpoint.safetensors,curves.png} predictions.csv
}

task_3() { # My device has noise that I cannot read, and hard thresholds; I have a model of neither.
    # docs/how-to/own-systems.md, "Where the activity is measured"; docs/tutorials/2-noise.ipynb
    written own_noise.py <<'PY'
import numpy as np
import torch
from torch import nn
from noisynets import Effect, NodePerturbation, cross_entropy
from noisynets.systems.units import Sign
from noisynets.tasks import TASKS


class Amplifier(Effect):
    """Noise that is drawn outside PyTorch and grows with the signal."""

    random = np.random.default_rng(0)

    def forward(self, a):
        z = torch.from_numpy(self.random.standard_normal(tuple(a.shape))).to(a)
        return a + (0.1 + 0.1 * a.abs()) * z


torch.manual_seed(0)
train_set, validation = TASKS["yinyang"].training()
model = nn.Sequential(nn.Linear(4, 64), Amplifier(), Sign(), nn.Linear(64, 3), Amplifier())
estimator = NodePerturbation(model, cross_entropy, sigma=None)  # None: inject nothing
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for index in torch.randint(len(train_set), (300, 100)):
    optimizer.zero_grad()
    estimator(*train_set.batch(index, torch.float32))
    optimizer.step()
x, y = validation.batch(slice(None), torch.float32)
print(f"accuracy in its noise {(model(x).argmax(1) == y).float().mean():.2f}")
print([note.kind for note in estimator.notes] or "no warnings")
PY
    typed python own_noise.py
}

task_4() { # My simulator is a program of its own; I want to check it, and to train its weights.
    # docs/how-to/blackbox.md, "The contract"; own_box.py is the simulator
    local box="python $here/own_box.py --serve"
    written moons.py <<'PY'
import math, random

random.seed(0)
with open("moons.csv", "w") as file:
    print("x,y,target", file=file)
    for i in range(600):
        angle, side = math.pi * random.random(), 1 - 2 * (i % 2)
        x, y = side * math.cos(angle) + i % 2, side * math.sin(angle) + 0.5 * (i % 2)
        print(f"{random.gauss(x, 0.1):.3f},{random.gauss(y, 0.1):.3f},{i % 2}", file=file)
PY
    typed python moons.py
    typed noisynets check-box "$box"
    typed noisynets train arrays:moons.csv --system process-box --hidden 32 32 --box "$box" --epochs 5 --out runs/box
    made runs/box/summary.json
}

task_5() { # My machine goes down in the middle of a run; I want to go on, and later to train for longer.
    # docs/how-to/runs.md, "Checkpoints"; docs/reliability.md
    printf '$ %s\n' "noisynets train yinyang --epochs 40 --out runs/stopped & kill \$!"
    noisynets train yinyang --epochs 40 --out runs/stopped 2>errors.txt &
    until [ -e runs/stopped/checkpoint.safetensors ] || ! kill -0 $!; do sleep 0.2; done
    kill $!
    wait $! && echo "it was not stopped" && exit 1
    messages
    [ ! -e runs/stopped/summary.json ]
    typed noisynets resume runs/stopped
    typed noisynets resume runs/stopped
    typed noisynets resume runs/stopped --epochs 42
    [ "$(wc -l <runs/stopped/metrics.csv)" = 43 ]
}

task_6() { # I have two runs with different rules, and want to see what differs and which is better.
    # docs/how-to/runs.md, "Comparisons"
    typed noisynets train arrays:metals.csv --hidden 16 --lr 0.01 --batch-size 20 --epochs 10 --rule anp --out runs/anp
    typed noisynets compare runs/metals runs/anp --out compare.png
    made compare.png
}

task_7() { # I want the trained weights in the plain model, in PyTorch, without this package.
    # docs/how-to/runs.md, "Weights"
    typed noisynets export runs/metals metals.pt
    written plain.py <<'PY'
import numpy as np
import torch
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(3, 16), nn.LeakyReLU(0.2), nn.Linear(16, 3))
model.load_state_dict(torch.load("metals.pt", weights_only=True))
scaling = np.load("metals.scaling.npz")
rows = np.loadtxt("metals.csv", delimiter=",", skiprows=1, usecols=(0, 1, 2))
x = torch.from_numpy((rows - scaling["mean"]) / scaling["std"]).float()
print("classes", model(x).argmax(1)[:6].tolist())  # 0 brass, 1 steel, 2 tin
PY
    typed python plain.py
    made metals.pt metals.scaling.npz
}

task_8() { # I want one page about a run that I can send to a colleague.
    # docs/how-to/report.md, "A report of a run or a benchmark"
    typed noisynets report runs/metals --diagnose --out metals.html
    made metals.html
}

task_9() { # I want to know which rule is best for my network, over several seeds and noise levels.
    # docs/how-to/benchmarks.md, "A suite of your own"
    written mine.toml <<'TOML'
summary = "Two rules on yin-yang."
rules = ["anp", "mirrored"]
seeds = [0, 1]

[settings]
task = "yinyang"
system = "noisy-mlp"
hidden = [32]
epochs = 2

[[case]]
name = "32"
rates = [3e-3, 1e-2]
TOML
    for noise in 0.1 0.3; do
        typed noisynets bench mine.toml --set "intrinsic_noise=$noise" --jobs 1
    done
    made runs/bench/mine-*/results.md runs/bench/mine-*/results.csv
}

task_10() { # I want a table of the paper by its command; here on MNIST, which needs no download, and tiny.
    # docs/how-to/benchmarks.md; docs/results/paper.md has the table in full
    typed noisynets bench paper --rules np dnp bp --seeds 0 --epochs 1 --candidates 1 --jobs 1 --out runs/paper \
        --set task=mnist hidden=32,32,32 train_examples=2000 batch_size=100 decor_rows=100
    made runs/paper/results.md runs/paper/results.csv runs/paper/curves.png
    typed noisynets report runs/paper
    made runs/paper/report.html
}

for task in $tasks; do
    printf '\n== task %s ==\n' "$task"
    "task_$task"
done
printf '\nall done\n'
