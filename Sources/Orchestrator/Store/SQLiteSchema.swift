import FoundationEssentials
import GRDB

/// The tables of the embedded store and the statements on them.
enum SQLiteSchema {
    /// Raised when the tables change; kept in SQLite's `user_version`.
    static let version = 1

    /// Creates the tables of a new file, and refuses a file that a newer version wrote.
    static func prepare(_ db: Database) throws {
        let found = try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0
        guard found <= version else {
            throw StoreError.unavailable(
                cause: "the store was written by a newer smirun (format \(found), this one knows \(version))",
                remedy: "run the newer version of smirun on this host"
            )
        }
        guard found == 0 else { return }
        try db.inTransaction(.immediate) {
            // Keys are blobs: compared by bytes.
            try db.execute(
                sql: """
                    CREATE TABLE entry (key BLOB PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID;
                    CREATE TABLE counter (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL);
                    INSERT INTO counter VALUES (1, 0);
                    PRAGMA user_version = \(version);
                    """
            )
            return .commit
        }
    }

    static func revision(_ db: Database) throws -> Int64 {
        try Int64.fetchOne(db.cachedStatement(sql: "SELECT revision FROM counter")) ?? 0
    }

    static func raiseRevision(_ db: Database) throws -> Int64 {
        try db.cachedStatement(sql: "UPDATE counter SET revision = revision + 1").execute()
        return try revision(db)
    }

    static func entry(_ db: Database, _ key: StoreKey) throws -> StoreEntry? {
        let statement = try db.cachedStatement(sql: "SELECT key, value, revision FROM entry WHERE key = ?")
        return try Row.fetchOne(statement, arguments: [blob(key.bytes)]).map(entry(from:))
    }

    static func entries(_ db: Database, below prefix: StoreKey) throws -> [StoreEntry] {
        let columns = "SELECT key, value, revision FROM entry"
        if let end = prefix.end {
            let statement = try db.cachedStatement(sql: "\(columns) WHERE key >= ? AND key < ? ORDER BY key")
            let rows = try Row.fetchCursor(statement, arguments: [blob(prefix.bytes), blob(end.bytes)])
            return try Array(rows.map(entry(from:)))
        }
        return try Array(Row.fetchCursor(db.cachedStatement(sql: "\(columns) ORDER BY key")).map(entry(from:)))
    }

    static func write(_ db: Database, _ key: StoreKey, _ value: [UInt8], _ revision: Int64) throws {
        let statement = try db.cachedStatement(
            sql: """
                INSERT INTO entry VALUES (?, ?, ?)
                ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision
                """
        )
        try statement.execute(arguments: [blob(key.bytes), blob(value), revision])
    }

    static func remove(_ db: Database, _ key: StoreKey) throws {
        try db.cachedStatement(sql: "DELETE FROM entry WHERE key = ?").execute(arguments: [blob(key.bytes)])
    }

    private static func entry(from row: Row) -> StoreEntry {
        let key: Data = row[0]
        let value: Data = row[1]
        return StoreEntry(key: String(decoding: key, as: UTF8.self), value: Array(value), revision: row[2])
    }

    private static func blob(_ bytes: [UInt8]) -> Data {
        Data(bytes)
    }
}
