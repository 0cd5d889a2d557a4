-- Lua hands every object to realloc: tables, strings and closures of all sizes.
local x, t = 1, {}
for i = 1, 200000 do
  x = (x * 1103515245 + 12345) % 2147483648
  local k = x % 2003
  t[k] = t[k] or {}
  table.insert(t[k], ("v" .. x):rep(x % 5 + 1))
  if i % 17 == 0 then t[x % 1999] = nil end
end
collectgarbage()
local keys, bytes, sum = {}, 0, 0
for k in pairs(t) do keys[#keys + 1] = k end
table.sort(keys)
for _, k in ipairs(keys) do
  local s = table.concat(t[k], ",")
  bytes = bytes + #s
  for d in s:gmatch("%d+") do sum = (sum * 31 + tonumber(d)) % 1000000007 end
end
print(#keys, bytes, sum)
print(pcall(string.rep, "x", 1 << 40))
io.stderr:write("a line on stderr\n")
os.exit(4, true)
