# SPDX-License-Identifier: Apache-2.0
"""The training function of torch_chaos_test.py: a tiny network on made-up data. Each epoch trained is one line in CHAOS_EPOCHS, each start
one in CHAOS_STARTS."""
import json
import os
import time

import torch
from torch import nn


def line(name, **what):
    """One write to a file opened for appending: whole, whatever is killed."""
    fd = os.open(os.environ[name], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, (json.dumps(what) + "\n").encode())
    os.close(fd)


torch.set_num_threads(1)
made = torch.Generator().manual_seed(1)
x = torch.randn(512, 8, generator=made)
y = (x @ torch.randn(8, 1, generator=made) + 0.5 * torch.sin(3 * x[:, :1])).squeeze(1)


def train(trial, lr, units):
    line("CHAOS_STARTS", trial=trial.number, attempt=trial.attempt, pid=os.getpid(), resume_step=trial.resume_step)
    torch.manual_seed(trial.number)
    model = nn.Sequential(nn.Linear(8, units), nn.Tanh(), nn.Dropout(0.1), nn.Linear(units, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for epoch in trial.epochs(model=model, optimizer=optimizer):
        time.sleep(float(os.environ["CHAOS_PAUSE"]))  # so that there is time to be killed in
        for rows in torch.randperm(512).split(64):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x[rows]).squeeze(1), y[rows]).backward()
            optimizer.step()
        line("CHAOS_EPOCHS", trial=trial.number, attempt=trial.attempt, epoch=epoch)
        with torch.no_grad():
            trial.report(epoch, loss=nn.functional.mse_loss(model.eval()(x).squeeze(1), y))
        model.train()
