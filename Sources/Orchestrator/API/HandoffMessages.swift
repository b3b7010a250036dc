import BackingStore
import Isolation

/// Conversions between the messages of the peer service and what the hand-off's drivers speak of.
extension CutStream {
    init?(_ kind: Smirun_V1_ChunkKind) {
        switch kind {
        case .cut: self = .state
        case .upper: self = .files
        default: return nil
        }
    }

    var kind: Smirun_V1_ChunkKind {
        switch self {
        case .state: .cut
        case .files: .upper
        }
    }
}

extension HandoffPreparation {
    init(_ message: Smirun_V1_HandoffPrepare) throws {
        self.init(
            user: message.user,
            spec: try decode(SandboxSpec.self, Array(message.spec)),
            generation: Int(message.generation),
            recordRevision: message.recordRevision,
            source: message.sourceHost
        )
    }

    func message() throws -> Smirun_V1_HandoffRequest {
        var prepare = Smirun_V1_HandoffPrepare()
        prepare.user = user
        prepare.spec = .init(try encode(spec))
        prepare.generation = UInt64(generation)
        prepare.recordRevision = recordRevision
        prepare.sourceHost = source
        var request = Smirun_V1_HandoffRequest()
        request.prepare = prepare
        return request
    }
}

extension HandoffArrival {
    /// Nil for messages that a later version may send and this one does not know.
    init?(_ message: Smirun_V1_HandoffRequest) {
        switch message.message {
        case .chunk(let chunk):
            guard let stream = CutStream(chunk.kind) else { return nil }
            // What cannot be unpacked is missing at the end, where the lengths are compared.
            self = .chunk(stream, ChunkPacking.unpacked(Array(chunk.data)) ?? [])
        case .cutComplete(let complete):
            var bytes: [CutStream: Int64] = [:]
            for summary in complete.streams {
                if let stream = CutStream(summary.kind) { bytes[stream] = Int64(clamping: summary.bytes) }
            }
            self = .complete(bytes, memoryEpoch: complete.memoryEpoch == 0 ? nil : complete.memoryEpoch)
        case .abort(let abort):
            self = .abandoned(OrchestratorError(abort.reason))
        case .prepare, nil:
            return nil
        }
    }
}

/// Phases as nanoseconds on the wire, milliseconds in reports.
func phasesOnWire(_ phases: [String: Double]) -> [String: UInt64] {
    phases.mapValues { UInt64(max(0, $0 * 1e6)) }
}

/// The reverse of `phasesOnWire`.
func phasesFromWire(_ phases: [String: UInt64]) -> [String: Double] {
    phases.mapValues { (Double($0) / 1e3).rounded() / 1e3 }
}
