"""Many objects in many threads; every result is a pure function of its input, so the output never varies."""
import collections
import hashlib
import json
import re
import sqlite3
import threading
import zlib


def work(seed, out):
    x, rows, table = seed, [], collections.defaultdict(list)
    for i in range(4000):
        x = (x * 1103515245 + 12345) % (1 << 31)
        rows.append({"id": i, "name": "n%d" % x, "tags": [str(x % k) for k in range(1, x % 9 + 2)]})
        table[x % 97].append(bytes([x % 256]) * (x % 3000))
        if i % 5 == 0:
            table.pop(x % 89, None)
    text = json.dumps(rows)
    back = json.loads(text)
    packed = zlib.compress(text.encode(), 6)
    words = re.findall(r"n(\d)\d*7\b", text)
    digest = hashlib.sha256(zlib.decompress(packed))
    for key in sorted(table):
        digest.update(b"".join(table[key]))
    out[seed] = (len(back), len(words), digest.hexdigest())


out = {}
threads = [threading.Thread(target=work, args=(seed, out)) for seed in range(1, 9)]
for t in threads:
    t.start()
for t in threads:
    t.join()
for seed in sorted(out):
    print(seed, *out[seed])

db = sqlite3.connect(":memory:")
db.execute("create table t(a integer primary key, b text)")
db.executemany("insert into t(b) values (?)", (("v" * (i % 400),) for i in range(5000)))
print(db.execute("select count(*), sum(length(b)) from t").fetchone())

# Threads that come and go, each freeing what another one made.
handed = collections.deque()
for round_ in range(60):
    made = threading.Thread(target=lambda: handed.extend(bytearray(n * 7) for n in range(200)))
    made.start()
    made.join()
    gone = threading.Thread(target=lambda: [handed.popleft() for _ in range(150)])
    gone.start()
    gone.join()
print(len(handed), sum(map(len, handed)))
try:
    bytearray(1 << 62)
except MemoryError as e:
    print("MemoryError", e)
