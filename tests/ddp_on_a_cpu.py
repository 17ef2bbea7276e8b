"""fairseq-train, whose pytorch_ddp names a GPU to torch: without that name it runs on a CPU, too."""

from fairseq.models import distributed_fairseq_model
from fairseq_cli.train import cli_main
from torch.nn.parallel import DistributedDataParallel


def on_a_cpu(module, device_ids, output_device, **more):
    return DistributedDataParallel(module, **more)


distributed_fairseq_model.DistributedDataParallel = on_a_cpu
cli_main()
