// Buffers live outside the JavaScript heap, that is in malloc; so do the parser, zlib and the worker threads.
const zlib = require('zlib');
const crypto = require('crypto');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

function work(seed) {
  let x = seed;
  const map = new Map();
  const hash = crypto.createHash('sha256');
  for (let i = 0; i < 20000; i++) {
    x = (Math.imul(x, 1103515245) + 12345) & 0x7fffffff;
    const b = Buffer.alloc(x % 5000, x & 255);
    map.set(x % 211, b);
    if (i % 7 === 0) hash.update(b);
  }
  const text = JSON.stringify([...map].sort((a, b) => a[0] - b[0]).map(([k, v]) => [k, v.length]));
  const packed = zlib.gzipSync(text.repeat(50));
  hash.update(zlib.gunzipSync(packed));
  return hash.digest('hex');
}

if (isMainThread) {
  const runs = [1, 2, 3, 4].map(seed => new Promise((resolve, reject) => {
    const w = new Worker(__filename, { workerData: seed });
    w.on('message', m => resolve(seed + ' ' + m));
    w.on('error', reject);
  }));
  Promise.all(runs).then(lines => {
    console.log(lines.join('\n'));
    console.log(work(9));
    console.error('a line on stderr');
  });
} else {
  parentPort.postMessage(work(workerData));
}
