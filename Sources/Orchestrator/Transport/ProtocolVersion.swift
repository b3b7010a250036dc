/// The versions of the protocol between daemons that a build speaks.
package struct ProtocolVersion: Sendable, Equatable {
    /// Oldest version that is still understood.
    package var min: UInt32
    /// Newest version.
    package var max: UInt32

    /// A range, both ends included.
    package init(min: UInt32, max: UInt32) {
        self.min = min
        self.max = max
    }

    /// What this build speaks.
    ///
    /// Raise `max` with every change of Protos/ that an older daemon would misunderstand, and `min` when the last release
    /// that needs it is no longer supported.
    package static let current = ProtocolVersion(min: 1, max: 1)

    /// The newest version that both sides speak.
    ///
    /// - Throws: `OrchestratorError` (`version`) that names both ranges.
    package func agree(
        with other: ProtocolVersion,
        at peer: String
    ) throws(OrchestratorError) -> UInt32 {
        let common = Swift.min(max, other.max)
        guard common >= Swift.max(min, other.min) else {
            let older = other.max < min ? peer : "this host"
            throw OrchestratorError(
                .version,
                cause: "\(peer) speaks protocol \(other), this host \(self)",
                remedy: "upgrade smirun on \(older)"
            )
        }
        return common
    }
}

extension ProtocolVersion: CustomStringConvertible {
    /// `version 1` or `versions 1 to 3`.
    package var description: String {
        min == max ? "version \(min)" : "versions \(min) to \(max)"
    }
}

extension ProtocolVersion {
    /// From the wire.
    package init(_ range: Smirun_V1_ProtocolRange) {
        self.init(min: range.min, max: range.max)
    }

    /// For the wire.
    package var message: Smirun_V1_ProtocolRange {
        .with {
            $0.min = min
            $0.max = max
        }
    }
}
