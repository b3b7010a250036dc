import Foundation
import GRPCCore
import Isolation
import LinuxSystem

/// The base images of this host, for the agent.
struct HostImages: BaseImages {
    let store: ImageStore

    func resolve(_ nameOrDigest: String) async throws -> String {
        let store = store
        return try await offload { try store.resolve(nameOrDigest).digest }
    }

    func has(_ digest: String) async -> Bool {
        store.path(digest: digest) != nil
    }
}

/// Brings base images from host to host, by digest.
struct ImageTransfer: Sendable {
    let images: ImageStore
    /// Bytes of one message.
    private static let chunk = 256 << 10

    /// Sends an image to a peer.
    func serve(_ digest: String, _ send: (Smirun_V1_ImageChunk) async throws -> Void) async throws {
        do {
            let images = images
            let (record, file) = try await offload {
                let record = try images.resolve(digest)
                guard let path = images.path(digest: record.digest) else { throw Self.gone(digest) }
                return (record, try Descriptor(open: path, O_RDONLY))
            }
            try await send(
                .with {
                    $0.header.size = UInt64(record.size)
                    $0.header.attributes = .init(Data(record.name.utf8))
                }
            )
            while true {
                let bytes = try await offload { try Self.readChunk(file) }
                if bytes.isEmpty { return }
                try await send(.with { $0.data = .init(bytes) })
            }
        } catch {
            try await send(.with { $0.failure = OrchestratorError(wrapping: error).message })
        }
    }

    /// Takes an image from a peer; its digest is checked before it is visible.
    func fetch<Client: Smirun_V1_Peer.ClientProtocol>(_ digest: String, from peer: Client) async throws {
        let images = images
        let temporary = images.directory + "/.fetch-\(newAttemptName())"
        let file = try await offload {
            try FileManager.default.createDirectory(atPath: images.directory, withIntermediateDirectories: true)
            return try Descriptor(open: temporary, O_WRONLY | O_CREAT | O_EXCL)
        }
        defer { unlink(temporary) }
        let name = try await peer.fetchImage(.with { $0.digest = digest }) { response in
            var name = ""
            for try await message in response.messages {
                switch message.message {
                case .header(let header): name = String(decoding: header.attributes, as: UTF8.self)
                case .data(let data):
                    let bytes = Array(data)
                    try await offload { try Self.writeChunk(file, bytes) }
                case .failure(let failure): throw OrchestratorError(failure)
                case nil: continue
                }
            }
            return name
        }
        _ = try await offload {
            try ImageBuilder(store: images, libexec: "").importFile(temporary, name: name, expected: digest)
        }
    }

    private static func readChunk(_ file: Descriptor) throws -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: chunk)
        let count = try syscall("read") { read(file.raw, &buffer, buffer.count) }
        return Array(buffer[..<count])
    }

    private static func writeChunk(_ file: Descriptor, _ bytes: [UInt8]) throws {
        var written = 0
        while written < bytes.count {
            written += try bytes.withUnsafeBytes { all in
                try syscall("write") { write(file.raw, all.baseAddress?.advanced(by: written), all.count - written) }
            }
        }
    }

    private static func gone(_ digest: String) -> OrchestratorError {
        OrchestratorError(.internalError, cause: "image \(digest) is not here any more", remedy: "build it again")
    }
}
