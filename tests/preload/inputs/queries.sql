.bail on
pragma cache_size = -4000;
create table note(id integer primary key, tag integer, body text);
create index note_tag on note(tag);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
  insert into note(tag, body) select (i * 7919) % 101, hex(zeroblob(i % 300)) from n;
select tag, count(*), sum(length(body)) from note group by tag order by 2 desc, 1 limit 20;
update note set body = body || 'x' where tag % 3 = 0;
delete from note where tag % 5 = 1;
select count(distinct body), max(length(body)) from note;
select a.tag, count(*) from note a join note b on a.tag = b.tag and a.id < b.id where a.tag < 9
  group by a.tag order by 1;
select group_concat(tag, ',') from (select distinct tag from note order by tag);
create virtual table if not exists words using fts5(w);
insert into words select 'word' || (id % 50) || ' ' || tag from note limit 2000;
select count(*) from words where words match 'word7';
vacuum;
select json_group_array(json_object('id', id, 'tag', tag)) from (select * from note order by id limit 50);
