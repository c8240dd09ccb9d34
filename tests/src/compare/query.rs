//! The questions that a fingerprint asks of a database.
//!
//! Names come fully quoted or schema-qualified, whatever the user's settings are, and rows are
//! summed up so that their order and the order of the columns do not matter.

/// One snapshot, and one way to write every value.
pub(super) const SESSION: &str = "
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET row_security = off;
SET search_path = '';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'iso_8601';
SET timezone = 'UTC';
SET extra_float_digits = 3;
SET bytea_output = 'hex';
SET quote_all_identifiers = off;
SET lc_monetary = 'C';
SET xmloption = 'content';
SET client_encoding = 'UTF8';
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The major release, as a number.
pub(super) const MAJOR: &str = "SELECT current_setting('server_version_num')::int / 10000";

/// For each table with rows of its own: its name, and the query that sums it up as
/// `rows N sum A B`, where A and B are the sums of the halves of the rows' MD5.
pub(super) const TABLES: &str = r#"
SELECT '"' || replace(n.nspname, '"', '""') || '"."' || replace(c.relname, '"', '""') || '"',
       format($$SELECT 'rows ' || count(*) || ' sum '
                || coalesce(sum(('x' || left(h, 16))::bit(64)::bigint::numeric), 0) || ' '
                || coalesce(sum(('x' || right(h, 16))::bit(64)::bigint::numeric), 0)
           FROM (SELECT md5(ROW(%s)::text) AS h FROM ONLY %I.%I AS "of") AS rows$$,
           coalesce((SELECT string_agg(format('"of".%I', a.attname), ',' ORDER BY a.attname COLLATE "C")
                       FROM pg_catalog.pg_attribute a
                      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), ''),
           n.nspname, c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                      AND d.objid = c.oid AND d.deptype = 'e')"#;

/// For each sequence: its name, and the query that tells where it stands.
pub(super) const SEQUENCES: &str = r#"
SELECT '"' || replace(n.nspname, '"', '""') || '"."' || replace(c.relname, '"', '""') || '"',
       format($$SELECT last_value || ' called ' || is_called || %L FROM %I.%I$$,
              (SELECT format(' %s %s %s %s %s %s', seqtypid::pg_catalog.regtype, seqstart,
                             seqincrement, seqmin, seqmax, seqcycle)
                 FROM pg_catalog.pg_sequence WHERE seqrelid = c.oid),
              n.nspname, c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'S' AND c.relpersistence <> 't'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                      AND d.objid = c.oid AND d.deptype = 'e')"#;

/// All large objects, summed up as `objects N sum A B`.
pub(super) const LARGE_OBJECTS: &str = "
SELECT 'objects ' || count(*) || ' sum '
       || coalesce(sum(('x' || left(h, 16))::bit(64)::bigint::numeric), 0) || ' '
       || coalesce(sum(('x' || right(h, 16))::bit(64)::bigint::numeric), 0)
  FROM (SELECT md5(oid || ' ' || md5(lo_get(oid))) AS h
          FROM pg_catalog.pg_largeobject_metadata) AS objects";

/// What defines the database: a kind, and the query for the names and definitions of that kind.
pub(super) const DEFINITIONS: [(&str, &str); 10] = [
    ("schema", SCHEMAS),
    ("relation", RELATIONS),
    ("column", COLUMNS),
    ("constraint", CONSTRAINTS),
    ("index", INDEXES),
    ("view", VIEWS),
    ("trigger", TRIGGERS),
    ("function", FUNCTIONS),
    ("type", TYPES),
    ("comment", COMMENTS),
];

const SCHEMAS: &str = "
SELECT format('%I', nspname), pg_get_userbyid(nspowner)::text FROM pg_catalog.pg_namespace
 WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'";

const RELATIONS: &str = "
SELECT c.oid::regclass::text,
       concat_ws(' ', c.relkind, c.relpersistence, pg_get_userbyid(c.relowner), c.relrowsecurity,
                 c.reloptions, pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid),
                 (SELECT string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno)
                    FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid))
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

const COLUMNS: &str = "
SELECT format('%s.%I', a.attrelid::regclass, a.attname),
       concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
                 a.attgenerated, a.attstorage, pg_get_expr(d.adbin, d.adrelid),
                 (SELECT collname FROM pg_catalog.pg_collation WHERE oid = a.attcollation))
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

const CONSTRAINTS: &str = "
SELECT format('%I of %s%s', k.conname, k.conrelid::regclass, format_type(nullif(k.contypid, 0), NULL)),
       pg_get_constraintdef(k.oid) || CASE WHEN k.convalidated THEN '' ELSE ' unchecked' END
  FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_namespace n ON n.oid = k.connamespace
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

const INDEXES: &str = "
SELECT c.oid::regclass::text,
       pg_get_indexdef(c.oid) || CASE WHEN i.indisvalid THEN '' ELSE ' invalid' END
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

const VIEWS: &str = "
SELECT c.oid::regclass::text, pg_get_viewdef(c.oid) || c.relispopulated
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('v', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

const TRIGGERS: &str = "
SELECT format('%I of %s', t.tgname, t.tgrelid::regclass),
       concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
  FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal";

const FUNCTIONS: &str = "
SELECT p.oid::regprocedure::text, pg_get_functiondef(p.oid)
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE p.prokind IN ('f', 'p', 'w') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

const TYPES: &str = "
SELECT t.oid::regtype::text,
       concat_ws(' ', t.typtype, format_type(nullif(t.typbasetype, 0), t.typtypmod), t.typnotnull,
                 t.typdefault,
                 (SELECT string_agg(quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder)
                    FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid))
  FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
 WHERE t.typtype IN ('d', 'e', 'r') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// Those below 16384 came with the server.
const COMMENTS: &str = "
SELECT pg_describe_object(classoid, objoid, objsubid), description
  FROM pg_catalog.pg_description
 WHERE objoid >= 16384 AND pg_describe_object(classoid, objoid, objsubid) IS NOT NULL";
