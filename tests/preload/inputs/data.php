<?php
// With USE_ZEND_ALLOC=0 every value goes through malloc.
$x = 1;
$t = [];
for ($i = 0; $i < 100000; $i++) {
    $x = ($x * 1103515245 + 12345) % 2147483648;
    $t[$x % 1009][] = str_repeat("v$x", $x % 5 + 1);
    if ($i % 13 == 0) unset($t[$x % 997]);
}
ksort($t);
$all = implode("\n", array_map(fn($v) => implode(",", $v), $t));
echo count($t), " ", strlen($all), " ", md5($all), " ", preg_match_all('/v\d*7,/', $all), "\n";
echo md5(json_encode(array_map(null, range(1, 20000)))), "\n";
