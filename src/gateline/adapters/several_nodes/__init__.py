"""Training on several nodes: a TrainJob of Kubeflow Trainer that the train step starts, follows and fetches the model of.

step.py       what the train step does in place of training
train_job.py  the TrainJob as Kubernetes reads it
trainer.py    the API of Kubernetes: who we are, and the TrainJob's life
shipment.py   folders on their way through the object store
node.py       what each node runs

One node is no case of this: it trains in the step's own pod. `docs/decisions/0026-nodes-are-like-the-pod-of-the-step.md` says why.
"""
