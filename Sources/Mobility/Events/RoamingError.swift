/// What can go wrong with event sources: a cause and a remedy.
public struct RoamingError: Error, Sendable, Hashable, CustomStringConvertible {
    /// Kinds of failure; more may be added.
    public struct Code: Sendable, Hashable {
        /// Stable name, for exit statuses and tests.
        public let name: String

        /// A configuration value that cannot be used.
        public static let configuration = Code(name: "configuration")
        /// A socket that could not be opened.
        public static let listen = Code(name: "listen")
        /// A trace file that cannot be read.
        public static let trace = Code(name: "trace")
        /// A subscriber or platform that did not answer as it should.
        public static let delivery = Code(name: "delivery")
    }

    /// Which kind.
    public var code: Code
    /// What happened.
    public var cause: String
    /// What to do about it.
    public var remedy: String

    /// Makes an error.
    public init(_ code: Code, cause: String, remedy: String) {
        self.code = code
        self.cause = cause
        self.remedy = remedy
    }

    /// Cause and remedy in one line.
    public var description: String { "\(cause) (\(remedy))" }
}
