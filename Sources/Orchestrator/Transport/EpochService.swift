import GRPCCore
import LinuxSystem
import Replication

/// The gRPC method that carries epochs: `smirun.v1.Epochs/Follow`, both directions streams of messages as
/// `EpochMessage` encodes them, without another layer around them.
enum EpochMethod {
    static let descriptor = MethodDescriptor(
        service: ServiceDescriptor(package: "smirun.v1", service: "Epochs"),
        method: "Follow"
    )
}

/// Epoch messages as gRPC's messages.
struct EpochCoding: MessageSerializer, MessageDeserializer {
    func serialize<Bytes: GRPCContiguousBytes>(_ message: EpochMessage) throws -> Bytes {
        Bytes(message.encoded())
    }

    func deserialize<Bytes: GRPCContiguousBytes>(_ serialized: Bytes) throws -> EpochMessage {
        try EpochMessage(decoding: serialized.withUnsafeBytes { Array($0) })
    }
}

/// Takes in the epochs of SMIs that other hosts run.
struct EpochService: RegistrableRPCService {
    /// Serves one stream until it ends; the answers go through the closure.
    typealias Follow =
        @Sendable (
            RPCAsyncSequence<EpochMessage, any Error>,
            @escaping @Sendable (EpochMessage) async throws -> Void
        ) async throws -> Void

    let follow: Follow

    func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        let follow = follow
        router.registerHandler(
            forMethod: EpochMethod.descriptor,
            deserializer: EpochCoding(),
            serializer: EpochCoding()
        ) { request, _ in
            StreamingServerResponse { writer in
                try await follow(request.messages) { try await writer.write($0) }
                return [:]
            }
        }
    }
}

/// The owner's end of a stream of epochs.
struct EpochCall: EpochLink {
    let call: DuplexCall<EpochMessage, EpochMessage>
    let thread: SerialThread

    func send(_ message: EpochMessage) async throws {
        try await call.send(message)
    }

    func next() async throws -> EpochMessage? {
        try await call.next()
    }

    func close() {
        call.finish()
        call.cancel()
    }
}

extension PeerConnection {
    /// Opens a stream of epochs.
    func epochs() -> EpochCall {
        let (client, thread) = (client, SerialThread())
        let call = DuplexCall(to: "host \(host)", depth: 2, on: thread) { request, onResponse in
            try await client.bidirectionalStreaming(
                request: request,
                descriptor: EpochMethod.descriptor,
                serializer: EpochCoding(),
                deserializer: EpochCoding(),
                options: .defaults,
                onResponse: onResponse
            )
        }
        return EpochCall(call: call, thread: thread)
    }
}
