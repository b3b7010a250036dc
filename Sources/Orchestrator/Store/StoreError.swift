/// Why a request to the cluster store did not succeed.
package enum StoreError: Error, Sendable, Equatable {
    /// The expectation did not hold; nothing was written. Carries what the key holds, nil where it does not exist.
    case conflict(current: StoreEntry?)
    /// The write may or may not have been committed: read the key to find out. Never retried silently.
    case inDoubt(cause: String, remedy: String)
    /// The store could not be asked; nothing was written.
    case unavailable(cause: String, remedy: String)
    /// The key or value cannot be stored.
    case invalid(cause: String, remedy: String)

    /// One sentence: what happened.
    package var cause: String {
        switch self {
        case .conflict(let current?): "the store's key '\(current.key)' was changed by somebody else meanwhile"
        case .conflict(nil): "a key of the store was deleted by somebody else meanwhile"
        case .inDoubt(let cause, _), .unavailable(let cause, _), .invalid(let cause, _): cause
        }
    }

    /// One sentence: what the operator can do.
    package var remedy: String {
        switch self {
        case .conflict: "run the command again"
        case .inDoubt(_, let remedy), .unavailable(_, let remedy), .invalid(_, let remedy): remedy
        }
    }
}

extension StoreError: CustomStringConvertible {
    /// `cause (remedy)`.
    package var description: String { "\(cause) (\(remedy))" }
}

extension OrchestratorError.Code {
    /// A compare-and-swap lost against another one.
    package static let storeConflict = OrchestratorError.Code(rawValue: "store-conflict")
}

extension OrchestratorError {
    /// The same failure in the terms of the whole module.
    package init(_ error: StoreError) {
        let code: Code =
            switch error {
            case .conflict: .storeConflict
            case .inDoubt: .inDoubt
            case .unavailable: .storeUnavailable
            case .invalid: .badArgument
            }
        self.init(code, cause: error.cause, remedy: error.remedy)
    }
}
