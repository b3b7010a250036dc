import FoundationEssentials

// The store's types on the wire.

extension StoreEntry {
    init(_ message: Smirun_V1_StoreEntry) {
        self.init(key: message.key, value: Array(message.value), revision: message.revision)
    }

    var message: Smirun_V1_StoreEntry {
        .with {
            $0.key = key
            $0.value = Data(value)
            $0.revision = revision
        }
    }
}

extension StoreExpectation {
    /// Nothing expected means nothing given: an unknown kind of a newer client must not pass as "any".
    init(_ message: Smirun_V1_StoreExpectation) throws(StoreError) {
        switch message.kind {
        case .any: self = .any
        case .absent: self = .absent
        case .revision(let revision): self = .revision(revision)
        case nil:
            throw StoreError.invalid(
                cause: "a write to the store came without an expectation",
                remedy: "run the same version of smirun on all hosts"
            )
        }
    }

    var message: Smirun_V1_StoreExpectation {
        .with {
            switch self {
            case .any: $0.any = true
            case .absent: $0.absent = true
            case .revision(let revision): $0.revision = revision
            }
        }
    }
}

extension StoreError {
    private static let inDoubtCode = "in-doubt"
    private static let unavailableCode = "unavailable"
    private static let invalidCode = "invalid"

    /// A failure that is not a conflict; conflicts have a message of their own.
    init(_ failure: Smirun_V1_Failure) {
        switch failure.code {
        case Self.inDoubtCode: self = .inDoubt(cause: failure.cause, remedy: failure.remedy)
        case Self.invalidCode: self = .invalid(cause: failure.cause, remedy: failure.remedy)
        case Self.unavailableCode: self = .unavailable(cause: failure.cause, remedy: failure.remedy)
        // A code of a newer version: what it means for the write is not known.
        default: self = .inDoubt(cause: failure.cause, remedy: failure.remedy)
        }
    }

    var message: Smirun_V1_Failure {
        .with {
            $0.code =
                switch self {
                case .conflict, .unavailable: Self.unavailableCode
                case .inDoubt: Self.inDoubtCode
                case .invalid: Self.invalidCode
                }
            $0.cause = cause
            $0.remedy = remedy
        }
    }
}

extension Smirun_V1_StorePutReply {
    init(_ error: StoreError) {
        self.init()
        guard case .conflict(let current) = error else {
            failure = error.message
            return
        }
        conflict = .with { conflict in
            if let current { conflict.current = current.message }
        }
    }

    /// The revision of the commit.
    func revisionOrError() throws(StoreError) -> Int64 {
        switch outcome {
        case .revision(let revision): return revision
        case .conflict(let conflict):
            throw StoreError.conflict(current: conflict.hasCurrent ? StoreEntry(conflict.current) : nil)
        case .failure(let failure): throw StoreError(failure)
        case nil:
            throw StoreError.inDoubt(
                cause: "the store's answer cannot be understood",
                remedy: "run the same version of smirun on all hosts"
            )
        }
    }
}

extension StoreEvent {
    /// A change; snapshots travel in pieces.
    var change: Smirun_V1_StoreWatchReply? {
        switch self {
        case .snapshot: nil
        case .put(let entry): .with { $0.put = entry.message }
        case .deleted(let key, let revision):
            .with {
                $0.deletion.key = key
                $0.deletion.revision = revision
            }
        }
    }
}
