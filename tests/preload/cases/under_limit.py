"""16 threads within an address-space limit of 600 MB; a request for 900 MB is a MemoryError, and life goes on."""
import threading

out = []


def work(n):
    kept = [bytearray(i % 5000) for i in range(n * 500)]
    out.append(sum(map(len, kept)))


threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(sorted(out))
try:
    bytearray(900 << 20)
    print("900 MB were given")
except MemoryError:
    print("MemoryError")
print(len([bytearray(1000) for _ in range(10000)]))
