# bash brings a malloc of its own on some systems; here the library must serve it, its children and its arrays.
declare -A seen
x=1
for ((i = 0; i < 20000; i++)); do
    x=$(((x * 1103515245 + 12345) % 2147483648))
    seen[$((x % 509))]+="v$x "
    ((i % 19 == 0)) && unset "seen[$((x % 503))]"
done
mapfile -t keys < <(printf '%s\n' "${!seen[@]}" | sort -n)
text=""
for k in "${keys[@]}"; do text+="$k:${seen[$k]}"; done
echo "${#keys[@]} ${#text} ${text//v*7 /}" | cut -c1-200
for n in 1 2 3 4 5 6 7 8; do (echo "child $n of ${#text}"); done
echo "$text" | tr ' ' '\n' | sort | uniq -c | sort -rn | head -3
exit 5
