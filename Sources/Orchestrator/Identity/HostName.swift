/// Names of hosts: `[a-z0-9]([a-z0-9-]*[a-z0-9])?`, at most 63 bytes, as one label of a DNS name.
///
/// No dots: the names that this product keeps for itself contain one, so no host can ask for them.
package enum HostName {
    /// The name in the certificate of the enrolment listener.
    package static let enrolment = "enrolment.smirun.invalid"

    /// Whether a name can be a host's.
    package static func isValid(_ name: String) -> Bool {
        let bytes = Array(name.utf8)
        guard let first = bytes.first, let last = bytes.last, bytes.count <= 63 else { return false }
        return isAlphanumeric(first) && isAlphanumeric(last)
            && bytes.allSatisfy { isAlphanumeric($0) || $0 == UInt8(ascii: "-") }
    }

    /// Refuses a name that cannot be a host's.
    package static func check(_ name: String) throws(OrchestratorError) {
        guard isValid(name) else {
            throw OrchestratorError(
                .badArgument,
                cause: "'\(String(name.prefix(64)))' is not a host name",
                remedy: "use 1 to 63 lower-case letters, digits and hyphens"
            )
        }
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }
}
