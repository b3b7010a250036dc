/// The cluster's shared memory: a small ordered map of keys to bytes with one revision counter.
///
/// Every commit raises the store's revision by one, and each entry carries the revision of the commit that wrote it, so
/// a compare-and-swap expects a revision. Implementations: `SQLiteStore` on the host that opens the store,
/// `RemoteStore` everywhere else, `MemoryStore` for simulation. All pass one conformance suite.
///
/// Keys are 1…512 bytes of UTF-8 without control characters, ordered by their bytes; values are at most 1 MiB.
package protocol ClusterStore: Sendable {
    /// The entry of a key, as of the last commit; nil where the key does not exist.
    func get(_ key: String) async throws(StoreError) -> StoreEntry?

    /// All entries whose key begins with `prefix`, in key order, from one consistent snapshot.
    func list(prefix: String) async throws(StoreError) -> [StoreEntry]

    /// Writes a value if the expectation holds at the moment of the commit.
    ///
    /// - Returns: The revision of the commit; the value is durable when this returns.
    /// - Throws: `StoreError.conflict` where the expectation did not hold and nothing was written,
    ///   `StoreError.inDoubt` where it is not known whether the write was committed.
    @discardableResult
    func put(_ key: String, _ value: [UInt8], expect: StoreExpectation) async throws(StoreError) -> Int64

    /// Deletes a key if the expectation holds; deleting a key that does not exist changes nothing.
    ///
    /// - Returns: The revision of the commit, or the store's revision where there was nothing to delete.
    @discardableResult
    func delete(_ key: String, expect: StoreExpectation) async throws(StoreError) -> Int64

    /// The contents below a prefix, then every change to them in the order of commits.
    ///
    /// The first event is a snapshot. Where contact with the store was lost in between, another snapshot follows and
    /// replaces everything that was known. The stream ends when its consumer ends it; it throws `StoreError` where the
    /// store is closed or the consumer fell too far behind (start again then).
    func watch(prefix: String) -> AsyncThrowingStream<StoreEvent, any Error>
}

/// One key with its value.
package struct StoreEntry: Sendable, Equatable {
    package var key: String
    package var value: [UInt8]
    /// The revision of the commit that wrote this value.
    package var revision: Int64

    /// An entry as committed.
    package init(key: String, value: [UInt8], revision: Int64) {
        self.key = key
        self.value = value
        self.revision = revision
    }

    /// Compares keys by their bytes: two spellings of the same text are two keys.
    package static func == (left: StoreEntry, right: StoreEntry) -> Bool {
        left.revision == right.revision && left.value == right.value
            && left.key.utf8.elementsEqual(right.key.utf8)
    }
}

/// What must hold of a key at the moment of a commit.
package enum StoreExpectation: Sendable, Equatable {
    /// Nothing: the write always happens.
    case any
    /// The key does not exist.
    case absent
    /// The key exists and was last written at this revision.
    case revision(Int64)

    /// Whether the expectation holds of a key's current entry.
    package func holds(of current: StoreEntry?) -> Bool {
        switch self {
        case .any: true
        case .absent: current == nil
        case .revision(let revision): current?.revision == revision
        }
    }
}

/// What a watch reports.
package enum StoreEvent: Sendable, Equatable {
    /// Everything below the prefix as of `revision`; replaces what was known before.
    case snapshot([StoreEntry], revision: Int64)
    /// A key was written.
    case put(StoreEntry)
    /// A key was deleted by the commit with this revision.
    case deleted(key: String, revision: Int64)

    /// The revision that the event brings its consumer to.
    package var revision: Int64 {
        switch self {
        case .snapshot(_, let revision): revision
        case .put(let entry): entry.revision
        case .deleted(_, let revision): revision
        }
    }
}
