import FoundationEssentials
import GRDB
import LinuxSystem
import Synchronization

/// The embedded cluster store: one SQLite file, opened by one daemon and served by it to the others.
///
/// Write-ahead log with `synchronous = FULL`: a commit is on the disk before its caller hears of it, so `kill -9` and
/// loss of power lose nothing that was acknowledged. All commits go through GRDB's one writer queue, which is also
/// where watchers are fed: their order is the order of commits.
package final class SQLiteStore: ClusterStore {
    private let pool: DatabasePool
    private let watchers: StoreWatchers
    private let lock: StoreLock
    private let pending = Mutex<[Pending]>([])
    /// Where the file is.
    package let path: String

    /// Opens a store, creating it where it does not exist.
    ///
    /// `watchLimit` is how many changes may wait for one consumer of `watch` before it is cut off.
    ///
    /// - Throws: `StoreError.unavailable` where another daemon has the store open, the file is damaged, was written by a
    ///   newer version, or cannot be created.
    package init(path: String, watchLimit: Int = 16384) throws(StoreError) {
        self.path = path
        self.watchers = StoreWatchers(limit: watchLimit)
        self.lock = try StoreLock(path: path + ".lock")
        do {
            var configuration = Configuration()
            // Readers wait for nobody in this mode; two are plenty for a store of some thousand entries.
            configuration.maximumReaderCount = 2
            configuration.busyMode = .timeout(5)
            configuration.label = "cluster-store"
            self.pool = try DatabasePool(path: path, configuration: configuration)
            try pool.writeWithoutTransaction { db in
                // GRDB chooses NORMAL for a pool, which may lose the last commits with the machine's power.
                try db.execute(sql: "PRAGMA synchronous = FULL")
                try SQLiteSchema.prepare(db)
            }
        } catch let error as StoreError {
            throw error
        } catch {
            throw SQLiteFailure.opening(path, error)
        }
    }

    /// Ends all watches, writes the log back and closes the file; further requests fail.
    package func close() {
        watchers.close(
            .unavailable(cause: "the store was closed", remedy: "check that the daemon that serves the store runs")
        )
        // Closing fails only while a request is under way: the file is then closed with the last reference.
        try? pool.close()
        lock.release()
    }

    package func get(_ key: String) async throws(StoreError) -> StoreEntry? {
        let key = try StoreKey(key)
        return try await read { db in try SQLiteSchema.entry(db, key) }
    }

    package func list(prefix: String) async throws(StoreError) -> [StoreEntry] {
        let prefix = try StoreKey(prefix: prefix)
        return try await read { db in try SQLiteSchema.entries(db, below: prefix) }
    }

    @discardableResult
    package func put(
        _ key: String,
        _ value: [UInt8],
        expect: StoreExpectation
    ) async throws(StoreError) -> Int64 {
        let key = try StoreKey(key)
        try StoreKey.check(value: value)
        return try await commit(key, expect) { db, _ in
            let revision = try SQLiteSchema.raiseRevision(db)
            try SQLiteSchema.write(db, key, value, revision)
            return .put(StoreEntry(key: key.text, value: value, revision: revision))
        }
    }

    @discardableResult
    package func delete(_ key: String, expect: StoreExpectation) async throws(StoreError) -> Int64 {
        let key = try StoreKey(key)
        return try await commit(key, expect) { db, current in
            guard current != nil else { return nil }
            let revision = try SQLiteSchema.raiseRevision(db)
            try SQLiteSchema.remove(db, key)
            return .deleted(key: key.text, revision: revision)
        }
    }

    package func watch(prefix: String) -> AsyncThrowingStream<StoreEvent, any Error> {
        let (stream, continuation) = watchers.makeStream()
        do {
            let prefix = try StoreKey(prefix: prefix)
            // On the writer's queue: no commit can fall between the snapshot and the subscription.
            pool.asyncWriteWithoutTransaction { [watchers, path] db in
                do {
                    let entries = try SQLiteSchema.entries(db, below: prefix)
                    let revision = try SQLiteSchema.revision(db)
                    watchers.subscribe(prefix, continuation, snapshot: entries, revision: revision)
                } catch {
                    continuation.finish(throwing: SQLiteFailure.reading(path, error))
                }
            }
        } catch {
            continuation.finish(throwing: error)
        }
        return stream
    }

    /// SQLite's setting of `PRAGMA synchronous` on the connection that commits; 2 is FULL.
    package func synchronousSetting() async throws(StoreError) -> Int {
        await withCheckedContinuation { continuation in
            pool.asyncWriteWithoutTransaction { db in
                continuation.resume(returning: (try? Int.fetchOne(db, sql: "PRAGMA synchronous")) ?? -1)
            }
        }
    }

    private func read<Value: Sendable>(
        _ body: @escaping @Sendable (Database) throws -> Value
    ) async throws(StoreError) -> Value {
        let path = path
        let result = await withCheckedContinuation { continuation in
            pool.asyncRead { access in
                continuation.resume(returning: Result { try body(access.get()) })
            }
        }
        do {
            return try result.get()
        } catch {
            throw SQLiteFailure.reading(path, error)
        }
    }

    /// A write that waits for the next commit.
    private struct Pending {
        var key: StoreKey
        var expect: StoreExpectation
        var apply: Apply
        var continuation: CheckedContinuation<Result<Int64, StoreError>, Never>
    }

    private typealias Apply = @Sendable (Database, StoreEntry?) throws -> StoreEvent?

    /// One write, durable when this returns.
    ///
    /// Those that arrive while the disk is busy share the next transaction and its one fsync; each has its own revision.
    ///
    /// Uses GRDB's callback interface: its `async` one rolls back on cancellation, which would leave the caller in
    /// doubt for no reason.
    private func commit(
        _ key: StoreKey,
        _ expect: StoreExpectation,
        _ apply: @escaping Apply
    ) async throws(StoreError) -> Int64 {
        let result = await withCheckedContinuation { continuation in
            let write = Pending(key: key, expect: expect, apply: apply, continuation: continuation)
            pending.withLock { $0.append(write) }
            pool.asyncWriteWithoutTransaction { db in self.commitPending(db) }
        }
        return try result.get()
    }

    /// Runs on the writer's queue.
    private func commitPending(_ db: Database) {
        let batch = pending.withLock { pending in
            defer { pending = [] }
            return pending
        }
        // An earlier turn may have taken what this one was queued for.
        guard !batch.isEmpty else { return }
        var outcomes: [Result<(Int64, StoreEvent?), StoreError>] = []
        do {
            try db.inTransaction(.immediate) {
                for write in batch { outcomes.append(try Self.outcome(of: write, db)) }
                return .commit
            }
        } catch {
            // Nothing of the batch was written: conflicts found on the way mean nothing either.
            outcomes = batch.map { _ in .failure(SQLiteFailure.writing(path, error)) }
        }
        for (write, outcome) in zip(batch, outcomes) {
            if case .success((_, let event?)) = outcome { watchers.publish(write.key, event) }
            write.continuation.resume(returning: outcome.map(\.0))
        }
    }

    /// Checks one write against what the transaction holds so far and applies it.
    private static func outcome(
        of write: Pending,
        _ db: Database
    ) throws -> Result<(Int64, StoreEvent?), StoreError> {
        let current = try SQLiteSchema.entry(db, write.key)
        guard write.expect.holds(of: current) else { return .failure(.conflict(current: current)) }
        let event = try write.apply(db, current)
        return .success((try event?.revision ?? SQLiteSchema.revision(db), event))
    }
}
