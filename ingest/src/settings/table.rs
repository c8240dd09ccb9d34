//! The one table of settings. Its doc comments are the help of `--help` and of the manual.

use super::Form;
use super::Secrecy;
use super::Section;
use super::Setting;

/// Makes a constant of each entry, and a list of them all.
macro_rules! settings {
    ($($(#[doc = $help:literal])+ $name:ident { $($field:ident: $value:expr),+ $(,)? })+) => {
        $(
            $(#[doc = $help])+
            pub const $name: Setting =
                Setting { help: concat!($($help),+), $($field: $value,)+ ..Setting::PLAIN };
        )+
        /// All settings, in the order of `--help`.
        pub const TABLE: &[&Setting] = &[$(&$name),+];
    };
}

settings! {
    /// Read settings from this file. Without it /etc/worm/ingest.toml, if there is one.
    CONFIG {
        name: "config",
        variables: &["WORM_CONFIG"],
        form: Form::Text("FILE"),
        in_file: false,
    }
    /// How to log to standard error: text for people, json for machines.
    LOG_FORMAT {
        name: "log-format",
        variables: &["WORM_LOG_FORMAT"],
        form: Form::Text("text|json"),
        default: Some("text"),
    }
    /// Where the write-once file system is mounted.
    BACKUPS {
        name: "backups",
        section: Section::Target,
        variables: &["WORM_BACKUPS"],
        form: Form::Text("DIR"),
        default: Some("/backups/active"),
    }
    /// Where to note every run.
    AUDIT_LOG {
        name: "audit-log",
        section: Section::Target,
        variables: &["WORM_AUDIT_LOG"],
        form: Form::Text("FILE"),
        default: Some("/backups/logs/backup_audit.jsonl"),
    }
    /// Also write to a directory that is not write-once. It protects nothing.
    ALLOW_PLAIN {
        name: "allow-plain",
        section: Section::Target,
        variables: &["WORM_ALLOW_PLAIN"],
        form: Form::Switch,
    }
    /// The database, as postgres://user@host:port/database. What it says wins over the settings
    /// below that come from the same place. A password is safer in a file.
    URL {
        name: "url",
        section: Section::Connection,
        variables: &["DATABASE_URL"],
        form: Form::Text("URL"),
        secrecy: Secrecy::Url,
        from_file: Some("url-file"),
    }
    /// The server: a name, an address, or the directory of a unix socket. Without it the socket, if
    /// there is one, otherwise localhost.
    HOST {
        name: "host",
        section: Section::Connection,
        variables: &["PGHOST", "POSTGRES_HOST"],
        form: Form::Text("HOST"),
    }
    /// The address of the server, to save looking up its name.
    HOSTADDR {
        name: "hostaddr",
        section: Section::Connection,
        variables: &["PGHOSTADDR"],
        form: Form::Text("ADDRESS"),
    }
    /// The port of the server.
    PORT {
        name: "port",
        section: Section::Connection,
        variables: &["PGPORT", "POSTGRES_PORT"],
        form: Form::Text("PORT"),
        default: Some("5432"),
    }
    /// The role to log in as. Without it, the name of the user that runs the agent.
    USER {
        name: "user",
        section: Section::Connection,
        variables: &["PGUSER", "POSTGRES_USER"],
        form: Form::Text("ROLE"),
    }
    /// The database. Without it, the one that is called like the role.
    DBNAME {
        name: "dbname",
        section: Section::Connection,
        variables: &["PGDATABASE", "POSTGRES_DB"],
        form: Form::Text("NAME"),
    }
    /// The password. It has no flag, because everybody could see it: use --password-file.
    PASSWORD {
        name: "password",
        section: Section::Connection,
        variables: &["PGPASSWORD", "POSTGRES_PASSWORD"],
        form: Form::Text("PASSWORD"),
        secrecy: Secrecy::Hidden,
        flag: false,
        from_file: Some("password-file"),
    }
    /// A password file as psql reads it. Without it and without a password,
    /// /run/secrets/db_password, then ~/.pgpass.
    PASSFILE {
        name: "passfile",
        section: Section::Connection,
        variables: &["PGPASSFILE"],
        form: Form::Text("FILE"),
    }
    /// TLS to the server: disable, allow, prefer, require (without looking who answers), verify-ca or
    /// verify-full. Without it prefer, or verify-full with --sslrootcert=system.
    SSLMODE {
        name: "sslmode",
        section: Section::Connection,
        variables: &["PGSSLMODE"],
        form: Form::Text("MODE"),
    }
    /// The certificates of the authorities to trust, in a file, or the word system. Without it
    /// ~/.postgresql/root.crt, if there is one.
    SSLROOTCERT {
        name: "sslrootcert",
        section: Section::Connection,
        variables: &["PGSSLROOTCERT"],
        form: Form::Text("FILE"),
    }
    /// Our certificate, for a server that asks for one. Without it ~/.postgresql/postgresql.crt, if
    /// there is one.
    SSLCERT {
        name: "sslcert",
        section: Section::Connection,
        variables: &["PGSSLCERT"],
        form: Form::Text("FILE"),
    }
    /// The key of our certificate, not encrypted. Without it ~/.postgresql/postgresql.key.
    SSLKEY {
        name: "sslkey",
        section: Section::Connection,
        variables: &["PGSSLKEY"],
        form: Form::Text("FILE"),
    }
    /// Whether the login is to be tied to the TLS connection: disable, prefer or require.
    CHANNEL_BINDING {
        name: "channel-binding",
        section: Section::Connection,
        variables: &["PGCHANNELBINDING"],
        form: Form::Text("MODE"),
        default: Some("prefer"),
    }
    /// Take settings of the connection from this section of the service file.
    SERVICE {
        name: "service",
        section: Section::Connection,
        variables: &["PGSERVICE"],
        form: Form::Text("NAME"),
    }
    /// The service file. Without it ~/.pg_service.conf, then that of the system.
    SERVICEFILE {
        name: "servicefile",
        section: Section::Connection,
        variables: &["PGSERVICEFILE"],
        form: Form::Text("FILE"),
    }
    /// Options for the server, such as -c statement_timeout=0.
    OPTIONS {
        name: "options",
        section: Section::Connection,
        variables: &["PGOPTIONS"],
        form: Form::Text("OPTIONS"),
    }
    /// Give up when the server does not answer for so long; 0 waits for ever.
    CONNECT_TIMEOUT {
        name: "connect-timeout",
        section: Section::Connection,
        variables: &["PGCONNECT_TIMEOUT"],
        form: Form::Text("SECONDS"),
        default: Some("30"),
    }
    /// A database, or a pattern of databases such as app_*; may be given more than once. A single name
    /// is that database alone; otherwise each has a directory of its own in the class.
    DATABASE {
        name: "database",
        section: Section::Dump,
        variables: &["WORM_DATABASE"],
        form: Form::List("NAME|PATTERN"),
    }
    /// Leave these databases out, where a pattern or --all-databases would take them.
    EXCLUDE_DATABASE {
        name: "exclude-database",
        section: Section::Dump,
        variables: &["WORM_EXCLUDE_DATABASE"],
        form: Form::List("NAME|PATTERN"),
    }
    /// All databases that allow connections and are no templates, each with a directory of its own.
    ALL_DATABASES {
        name: "all-databases",
        section: Section::Dump,
        variables: &["WORM_ALL_DATABASES"],
        form: Form::Switch,
    }
    /// Dump only these schemas, by patterns as pg_dump takes them. May be repeated, like the four below.
    SCHEMA {
        name: "schema",
        section: Section::Dump,
        variables: &["WORM_SCHEMA"],
        form: Form::List("PATTERN"),
    }
    /// Do not dump these schemas.
    EXCLUDE_SCHEMA {
        name: "exclude-schema",
        section: Section::Dump,
        variables: &["WORM_EXCLUDE_SCHEMA"],
        form: Form::List("PATTERN"),
    }
    /// Dump only these tables.
    TABLE_PATTERN {
        name: "table",
        section: Section::Dump,
        variables: &["WORM_TABLE"],
        form: Form::List("PATTERN"),
    }
    /// Do not dump these tables.
    EXCLUDE_TABLE {
        name: "exclude-table",
        section: Section::Dump,
        variables: &["WORM_EXCLUDE_TABLE"],
        form: Form::List("PATTERN"),
    }
    /// Dump these tables without their rows.
    EXCLUDE_TABLE_DATA {
        name: "exclude-table-data",
        section: Section::Dump,
        variables: &["WORM_EXCLUDE_TABLE_DATA"],
        form: Form::List("PATTERN"),
    }
    /// So many databases at the same time.
    PARALLEL {
        name: "parallel",
        section: Section::Dump,
        variables: &["WORM_PARALLEL"],
        form: Form::Text("NUMBER"),
        default: Some("1"),
    }
    /// What pg_dump writes: plain (SQL), custom (one archive), or directory (files, dumped by --jobs
    /// at once and packed as one tar file).
    FORMAT {
        name: "format",
        section: Section::Dump,
        variables: &["WORM_FORMAT"],
        form: Form::Text("FORMAT"),
        default: Some("plain"),
    }
    /// How to compress: gzip:1 (fast) to gzip:9 (small), zstd:1 to zstd:19, or none. The formats
    /// custom and directory are compressed by pg_dump itself.
    COMPRESS {
        name: "compress",
        section: Section::Dump,
        variables: &["WORM_COMPRESS"],
        form: Form::Text("CODEC[:LEVEL]"),
        default: Some("gzip:1"),
    }
    /// How many tables to dump at once. Only for --format directory.
    JOBS {
        name: "jobs",
        section: Section::Dump,
        variables: &["WORM_JOBS"],
        form: Form::Text("N"),
        default: Some("1"),
    }
    /// Where --format directory is written to on its way. With recipients it must be in memory.
    SCRATCH {
        name: "scratch",
        section: Section::Dump,
        variables: &["WORM_SCRATCH"],
        form: Form::Text("DIR"),
    }
    /// Encrypt to these public keys: age1..., ssh-ed25519 ..., ssh-rsa ...
    RECIPIENT {
        name: "recipient",
        section: Section::Dump,
        variables: &["WORM_RECIPIENT"],
        form: Form::List("KEY"),
        from_file: Some("recipients-file"),
        secrecy: Secrecy::Key,
    }
    /// Read at most so many bytes per second from pg_dump; 0 for no limit.
    RATE_LIMIT {
        name: "rate-limit",
        section: Section::Dump,
        variables: &["WORM_RATE_LIMIT"],
        form: Form::Text("BYTES"),
        default: Some("0"),
    }
    /// Refuse a dump with fewer bytes than this, before compression.
    MIN_BYTES {
        name: "min-bytes",
        section: Section::Dump,
        variables: &["WORM_MIN_BYTES"],
        form: Form::Text("BYTES"),
        default: Some("256"),
    }
    /// Also keep roles and tablespaces (NAME.globals.sql) and settings of the server (NAME.cluster.json)
    /// beside each dump.
    GLOBALS {
        name: "globals",
        section: Section::Dump,
        variables: &["WORM_GLOBALS"],
        form: Form::Switch,
        default: Some("true"),
    }
    /// Look for pg_dump only here.
    CLIENT_DIR {
        name: "client-dir",
        section: Section::Dump,
        variables: &["WORM_CLIENT_DIR"],
        form: Form::Text("DIR"),
    }
    /// Give up when pg_dump waits longer than this for a lock on a table.
    LOCK_WAIT_TIMEOUT {
        name: "lock-wait-timeout",
        section: Section::Dump,
        variables: &["WORM_LOCK_WAIT_TIMEOUT"],
        form: Form::Text("SECONDS"),
        default: Some("600"),
    }
    /// Give up when for so long nothing was dumped and nothing written. Longer than the wait for a
    /// lock, so that pg_dump can say which table it waits for.
    STALL_TIMEOUT {
        name: "stall-timeout",
        section: Section::Dump,
        variables: &["WORM_STALL_TIMEOUT"],
        form: Form::Text("SECONDS"),
        default: Some("1800"),
    }
    /// End a run that takes longer, such as 90m or 6h.
    DEADLINE {
        name: "deadline",
        section: Section::Dump,
        variables: &["WORM_DEADLINE"],
        form: Form::Text("DURATION"),
        default: Some("6h"),
    }
    /// Which file tells other agents on this host that a run is under way. Without it, one in
    /// /run/lock, /run or /tmp whose name follows from the database and the directory.
    LOCK_FILE {
        name: "lock-file",
        section: Section::Dump,
        variables: &["WORM_LOCK_FILE"],
        form: Form::Text("FILE"),
    }
    /// When another run is under way, wait for its end instead of ending with 7.
    WAIT {
        name: "wait",
        section: Section::Dump,
        variables: &["WORM_WAIT"],
        form: Form::Switch,
    }
    /// When hourly backups are made: a cron line of five fields, @hourly, @daily, @weekly, or off.
    SCHEDULE_HOURLY {
        name: "schedule-hourly",
        section: Section::Schedule,
        variables: &["BACKUP_SCHEDULE"],
        form: Form::Text("LINE"),
        default: Some("0 * * * *"),
    }
    /// When daily backups are made.
    SCHEDULE_DAILY {
        name: "schedule-daily",
        section: Section::Schedule,
        variables: &["WORM_SCHEDULE_DAILY"],
        form: Form::Text("LINE"),
        default: Some("0 0 * * *"),
    }
    /// When weekly backups are made.
    SCHEDULE_WEEKLY {
        name: "schedule-weekly",
        section: Section::Schedule,
        variables: &["WORM_SCHEDULE_WEEKLY"],
        form: Form::Text("LINE"),
        default: Some("0 0 * * 0"),
    }
    /// When backups of further classes are made, with ; between several.
    SCHEDULE_OTHER {
        name: "schedule-other",
        section: Section::Schedule,
        variables: &["WORM_SCHEDULE_OTHER"],
        form: Form::Text("CLASS=LINE;..."),
    }
    /// The time zone of the schedule, such as Europe/Rome. Names of backups are UTC all the same.
    ZONE {
        name: "zone",
        section: Section::Schedule,
        variables: &["TZ"],
        form: Form::Text("ZONE"),
        default: Some("UTC"),
    }
    /// For how long after its time a missed run is made up for, such as 30m or 3d. Without it for
    /// three quarters of the time to the next one.
    CATCH_UP {
        name: "catch-up",
        section: Section::Schedule,
        variables: &["WORM_CATCH_UP"],
        form: Form::Text("DURATION"),
    }
    /// Put runs off by a share of this that follows from host and database, so that many agents do
    /// not begin at once.
    JITTER {
        name: "jitter",
        section: Section::Schedule,
        variables: &["WORM_JITTER"],
        form: Form::Text("DURATION"),
        default: Some("0s"),
    }
    /// Ping this address when a run begins (URL/start), when it went well (URL), and when it did not or
    /// is suspect (URL/fail), as healthchecks does. CLASS=URL for one class only. May be repeated.
    PING_URL {
        name: "ping-url",
        section: Section::Alarms,
        variables: &["WORM_PING_URL"],
        form: Form::List("[CLASS=]URL"),
        secrecy: Secrecy::Hidden,
        from_file: Some("ping-url-file"),
    }
    /// Post every line of the audit log to this address, as JSON. May be repeated.
    WEBHOOK_URL {
        name: "webhook-url",
        section: Section::Alarms,
        variables: &["WORM_WEBHOOK_URL"],
        form: Form::List("URL"),
        secrecy: Secrecy::Hidden,
        from_file: Some("webhook-url-file"),
    }
    /// Trust these certificate authorities for pings and webhooks, instead of those that browsers trust.
    PING_CA {
        name: "ping-ca",
        section: Section::Alarms,
        variables: &["WORM_PING_CA"],
        form: Form::Text("FILE"),
    }
    /// Give up one try of a ping or webhook after so long. There are three tries.
    PING_TIMEOUT {
        name: "ping-timeout",
        section: Section::Alarms,
        variables: &["WORM_PING_TIMEOUT"],
        form: Form::Text("SECONDS"),
        default: Some("10"),
    }
    /// Run this shell command after each good backup. WORM_NAME and other variables tell which.
    HOOK_SUCCESS {
        name: "hook-success",
        section: Section::Alarms,
        variables: &["WORM_HOOK_SUCCESS"],
        form: Form::Text("COMMAND"),
    }
    /// Run this shell command after each backup that failed or is suspect. WORM_ERROR_CODE and
    /// WORM_MESSAGE tell why.
    HOOK_FAILURE {
        name: "hook-failure",
        section: Section::Alarms,
        variables: &["WORM_HOOK_FAILURE"],
        form: Form::Text("COMMAND"),
    }
    /// Set a tripwire, such as rows.dropped=30 (percent), or switch it off: duration.exploded=off. May
    /// be repeated.
    TRIPWIRE {
        name: "tripwire",
        section: Section::Alarms,
        variables: &["WORM_TRIPWIRE"],
        form: Form::List("CODE=NUMBER|off"),
    }
    /// Answer GET /livez, /readyz and /metrics at this address, on this machine only: 127.0.0.1:PORT,
    /// [::1]:PORT or unix:/PATH.
    LISTEN {
        name: "listen",
        section: Section::Health,
        variables: &["WORM_LISTEN"],
        form: Form::Text("ADDRESS"),
    }
    /// Write the numbers into this file every half a minute, for node_exporter. Its name must end in
    /// .prom.
    METRICS_TEXTFILE {
        name: "metrics-textfile",
        section: Section::Health,
        variables: &["WORM_METRICS_TEXTFILE"],
        form: Form::Text("FILE"),
    }
}
