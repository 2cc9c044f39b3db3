"""The disk that both systems are measured on: a journalled ext4 image on a loop device with direct I/O where root allows it, else the
folder's own file system. Says which."""

import os
import shutil
import subprocess
import tempfile

IMAGE_SIZE = 4 << 30


class Disk:
    """A folder to put queues in; remove() takes everything away again."""

    def __init__(self, parent, size=IMAGE_SIZE, inodes=None):
        self.size, self.inodes = size, inodes
        self.folder = tempfile.mkdtemp(prefix="ironpost-bench-", dir=parent)
        os.chmod(self.folder, 0o755)
        self.loop = None
        self.path = os.path.join(self.folder, "disk")
        os.mkdir(self.path)
        try:
            self._mount()
        except (OSError, subprocess.CalledProcessError) as error:
            self.description = f"the file system of {parent} (no loop device: {error})"

    def _mount(self):
        if os.geteuid() != 0:
            raise PermissionError("not root")
        image = os.path.join(self.folder, "image")
        with open(image, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, self.size)
        quiet = {"check": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        inodes = ["-N", str(self.inodes)] if self.inodes else []
        subprocess.run(["mkfs.ext4", "-q", *inodes, "-E", "lazy_itable_init=0,lazy_journal_init=0", image], **quiet)
        direct = "on"
        try:
            self.loop = subprocess.run(["losetup", "-f", "--show", "--direct-io=on", image], **quiet).stdout.strip()
        except subprocess.CalledProcessError:
            direct = "off"
            self.loop = subprocess.run(["losetup", "-f", "--show", image], **quiet).stdout.strip()
        subprocess.run(["mount", "-t", "ext4", self.loop, self.path], **quiet)
        os.chmod(self.path, 0o755)
        self.description = f"journalled ext4 (defaults) on a loop device, direct I/O {direct}"

    def forget_caches(self):
        """Takes everything of this disk out of memory, where it is a disk of its own: nothing may be open on it. Says whether it did."""
        if not self.loop:
            return False
        subprocess.run(["umount", self.path], check=True)
        subprocess.run(["mount", "-t", "ext4", self.loop, self.path], check=True)
        return True

    def written(self):
        """(octets written, flushes) so far, where it is a disk of its own; None elsewhere."""
        if not self.loop:
            return None
        with open(f"/sys/block/{os.path.basename(self.loop)}/stat", encoding="ascii") as file:
            fields = [int(field) for field in file.read().split()]
        return fields[6] * 512, fields[15]

    def remove(self):
        if self.loop:
            subprocess.run(["umount", self.path], check=False)
            # Unmounting may have let go of it already.
            subprocess.run(["losetup", "-d", self.loop], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.folder, ignore_errors=True)
