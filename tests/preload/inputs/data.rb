# Strings, hashes, closures and threads; the collector runs often.
def work(seed)
  x = seed
  table = Hash.new { |h, k| h[k] = [] }
  30_000.times do |i|
    x = (x * 1_103_515_245 + 12_345) % 2_147_483_648
    table[x % 997] << "v#{x}" * (x % 6 + 1)
    table.delete(x % 991) if i % 13 == 0
  end
  GC.start
  text = table.keys.sort.map { |k| table[k].join(",") }.join("\n")
  [table.size, text.size, text.scan(/v\d*7,/).size, text.sum]
end
results = (1..6).map { |s| Thread.new { work(s) } }.map(&:value)
results.each { |r| puts r.inspect }
big = (1..200).map { |i| "z" * (i * 1000) }
puts big.map(&:size).sum
big = nil
GC.compact if GC.respond_to?(:compact)
begin
  raise ArgumentError, "a message"
rescue ArgumentError => e
  warn e.message
end
