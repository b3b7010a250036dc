/// What went wrong in the mobility module: one cause and one remedy.
public struct MobilityError: Error, Sendable, Hashable, CustomStringConvertible {
    /// Kinds of failure; callers may add to the list without breaking others.
    public struct Code: RawRepresentable, Sendable, Hashable {
        /// Name of the kind.
        public let rawValue: String
        /// Makes a kind from its name.
        public init(rawValue: String) { self.rawValue = rawValue }
        /// An AP map cannot be read.
        public static let map = Code(rawValue: "map")
        /// A snapshot of the predictor cannot be restored.
        public static let snapshot = Code(rawValue: "snapshot")
        /// A file cannot be opened, read or written.
        public static let file = Code(rawValue: "file")
        /// Recorded data cannot be used.
        public static let data = Code(rawValue: "data")
    }

    /// Kind of failure.
    public let code: Code
    /// What happened, one cause.
    public let cause: String
    /// What to do about it.
    public let remedy: String

    /// Makes an error.
    public init(_ code: Code, cause: String, remedy: String) {
        self.code = code
        self.cause = cause
        self.remedy = remedy
    }

    /// Cause and remedy in one line.
    public var description: String { "\(cause); \(remedy)" }
}
