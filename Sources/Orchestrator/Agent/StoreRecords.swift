import Foundation

/// Typed access to the records in the cluster store.
extension ClusterStore {
    /// An SMI's record and the store's revision of it.
    package func record(of user: String) async throws -> (record: SMIRecord, revision: Int64)? {
        guard let entry = try await get(SMIRecord.key(user)) else { return nil }
        return (try decode(SMIRecord.self, entry.value), entry.revision)
    }

    /// The generation of an SMI that a host owns.
    ///
    /// - Throws: `OrchestratorError` where the host does not own it (any more).
    package func generation(of user: String, on host: String) async throws -> UInt64 {
        guard let record = try await record(of: user)?.record, record.host == host else {
            throw OrchestratorError(
                .notRunning,
                cause: "\(user) is not owned by \(host)",
                remedy: "nothing is to be done: its owner keeps the replicas"
            )
        }
        return UInt64(record.generation)
    }

    /// All records below a prefix, with their revisions, in the order of their keys.
    package func records<Record: Decodable>(
        _ type: Record.Type,
        prefix: String
    ) async throws -> [(record: Record, revision: Int64)] {
        try await list(prefix: prefix).map { (try decode(type, $0.value), $0.revision) }
    }

    /// Writes a record as JSON.
    @discardableResult
    package func write<Record: Encodable>(
        _ key: String,
        _ record: Record,
        expect: StoreExpectation
    ) async throws -> Int64 {
        try await put(key, encode(record), expect: expect)
    }

    /// Makes a running SMI's ownership by `host` certain: one compare-and-swap to the next generation on the same host.
    ///
    /// Any hand-off that is still on its way to commit expects the earlier revision and fails from now on.
    ///
    /// - Returns: False where another host owns the SMI or somebody changed the record at the same moment.
    /// - Throws: `StoreError` where the outcome is not known.
    package func claim(user: String, host: String) async throws -> Bool {
        guard let (current, revision) = try await record(of: user), current.host == host else { return false }
        var next = current
        next.generation += 1
        next.attempt = newAttemptName()
        do {
            try await write(SMIRecord.key(user), next, expect: .revision(revision))
            return true
        } catch {
            guard isConflict(error) else { throw error }
            return false
        }
    }
}

/// Whether a write was refused because its expectation did not hold.
package func isConflict(_ error: any Error) -> Bool {
    guard let error = error as? StoreError, case .conflict = error else { return false }
    return true
}

/// A name for one attempt to change ownership, never used twice.
package func newAttemptName() -> String {
    UUID().uuidString.lowercased()
}

/// Encodes a value as JSON with sorted keys, so that equal values have equal bytes.
package func encode<Value: Encodable>(_ value: Value) throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return Array(try encoder.encode(value))
}

/// Decodes JSON; a mismatch names the type that was expected.
package func decode<Value: Decodable>(_ type: Value.Type, _ bytes: [UInt8]) throws -> Value {
    do {
        return try JSONDecoder().decode(type, from: Data(bytes))
    } catch {
        throw OrchestratorError(
            .internalError,
            cause: "a \(type) could not be read: \(error)",
            remedy: "check that all hosts run the same version of smirun"
        )
    }
}
