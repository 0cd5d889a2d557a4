# Hashes, arrays, strings and regular expressions that grow and shrink.
use strict;
use warnings;
my ($x, %h, @a) = (1);
for my $i (1 .. 60000) {
    $x = ($x * 1103515245 + 12345) % 2147483648;
    push @{$h{$x % 1009}}, "v$x" x ($x % 7 + 1);
    delete $h{$x % 1013} if $i % 11 == 0;
}
push @a, map { join ",", @{$h{$_}} } sort { $a <=> $b } keys %h;
my $all = join "\n", @a;
my $n = () = $all =~ /v\d*7,/g;
(my $copy = $all) =~ s/v(\d)(\d+)/$2-$1/g;
printf "%d keys, %d bytes, %d hits, %d bytes, %s\n",
    scalar(keys %h), length $all, $n, length $copy, unpack("%32C*", $copy);
my @rows = map { { id => $_, list => [1 .. $_ % 20] } } 1 .. 20000;
splice @rows, 100, 15000;
my $sum = 0;
$sum += @{$_->{list}} for @rows;
print "$sum\n";
warn "a line on stderr\n";
exit 3;
