"""A large backlog in no time: one really deferred message, its file copied under other names (doc/spool-format.md)."""

import os

ALPHABET = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"


def base52(value, digits):
    text = ""
    for _ in range(digits):
        value, digit = divmod(value, 52)
        text = ALPHABET[digit] + text
    return text


def clone(folder, count, due):
    """Copies the only file below `folder` (a spool's deferred/) until there are `count`, of an hour's mail, due from `due` (seconds since 1970) on."""
    (parent, _, names), *more = [found for found in os.walk(folder) if found[2]]
    if more or len(names) != 1:
        raise RuntimeError("one deferred message was expected")
    template = os.path.join(parent, names[0])
    status, owner = os.stat(template), os.stat(parent)
    with open(template, "rb") as file:
        content = file.read()
    begin, made = int(status.st_mtime * 1_000_000) - 3_600_000_000, set()
    for number in range(count - 1):
        # Not evenly spaced: IDs shall fill all sub-folders.
        time = base52(begin + number * 3_600_000_000 // count + number % 7, 10)
        below = os.path.join(folder, time[6:8])
        if below not in made:
            made.add(below)
            if not os.path.isdir(below):
                os.mkdir(below, owner.st_mode & 0o777)
                os.chown(below, owner.st_uid, owner.st_gid)
        path = os.path.join(below, f"{time}{base52(number, 6)}.{due + number % 3600}")
        with open(path, "xb", buffering=0) as file:
            file.write(content)
            os.fchown(file.fileno(), status.st_uid, status.st_gid)
            os.fchmod(file.fileno(), status.st_mode & 0o777)
