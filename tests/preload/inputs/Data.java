import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.zip.CRC32;
import java.util.zip.Deflater;

/** The virtual machine, its compilers, zlib and direct buffers allocate with malloc. */
public class Data {
    static String work(int seed) {
        TreeMap<Integer, String> map = new TreeMap<>();
        CRC32 crc = new CRC32();
        int x = seed;
        for (int i = 0; i < 20000; i++) {
            x = (x * 1103515245 + 12345) & 0x7fffffff;
            map.put(x % 1009, "value " + x);
            if (i % 100 == 0) {
                ByteBuffer b = ByteBuffer.allocateDirect(x % 9000 + 1);
                b.put(0, (byte) x);
                crc.update(b);
            }
        }
        byte[] text = map.toString().getBytes();
        Deflater deflater = new Deflater();
        deflater.setInput(text);
        deflater.finish();
        byte[] out = new byte[text.length];
        int n = deflater.deflate(out);
        deflater.end();
        crc.update(out, 0, n);
        return seed + " " + map.size() + " " + n + " " + Long.toHexString(crc.getValue());
    }

    public static void main(String[] args) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Callable<String>> jobs = new ArrayList<>();
        for (int i = 1; i <= 8; i++) {
            final int seed = i;
            jobs.add(() -> work(seed));
        }
        for (var f : pool.invokeAll(jobs)) {
            System.out.println(f.get());
        }
        pool.shutdown();
    }
}
