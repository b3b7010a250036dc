import FoundationEssentials
import GRPCCore
import Glibc

/// The command line's connection to its host's daemon.
package struct ControlClient: Sendable {
    private let link: ClientLink
    /// What the daemon said of itself.
    package let greeting: Greeting

    /// Connects and exchanges versions.
    ///
    /// - Throws: `OrchestratorError`: `daemonUnreachable` where nobody listens, `version` where the versions do not fit.
    package static func connect(
        path: String,
        build: String,
        limit: Duration = .seconds(5)
    ) async throws(OrchestratorError) -> ControlClient {
        let own = Greeting(host: "", build: build, cluster: "")
        do {
            let link = try ClientLink.unix(path: path)
            do {
                let greeting = try await link.greet(own, limit: limit)
                _ = try own.protocolVersion.agree(with: greeting.protocolVersion, at: "the daemon")
                return ControlClient(link: link, greeting: greeting)
            } catch {
                await link.close(grace: .zero)
                throw error
            }
        } catch let error as OrchestratorError {
            throw error
        } catch {
            if access(path, W_OK) != 0, errno == EACCES { throw .notRoot("the daemon's socket \(path) is root's") }
            throw OrchestratorError(
                .daemonUnreachable,
                cause: "no daemon answers on \(path)",
                remedy: "start one with `smirun lab up` or `smirun daemon`, or name its socket with --socket"
            )
        }
    }

    /// One request, one JSON document; without a limit this waits as long as the daemon works on it.
    package func call(
        _ method: String,
        _ json: [UInt8],
        limit: Duration? = nil
    ) async throws(OrchestratorError) -> [UInt8] {
        do {
            let request = Smirun_V1_ControlRequest(method, json)
            let client = Smirun_V1_Control.Client(wrapping: link.client)
            return try await client.call(request, options: limit.map { .limited($0) } ?? .defaults).document()
        } catch {
            throw OrchestratorError(error, calling: "the daemon")
        }
    }

    /// One request, any number of documents; `receive` is called for each in turn.
    package func stream(
        _ method: String,
        _ json: [UInt8],
        _ receive: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws(OrchestratorError) {
        do {
            let request = Smirun_V1_ControlRequest(method, json)
            try await Smirun_V1_Control.Client(wrapping: link.client).stream(request) { response in
                for try await reply in response.messages { try await receive(reply.document()) }
            }
        } catch {
            throw OrchestratorError(error, calling: "the daemon")
        }
    }

    /// Ends the connection.
    package func close() async {
        await link.close(grace: .milliseconds(200))
    }
}

extension Smirun_V1_ControlRequest {
    fileprivate init(_ method: String, _ json: [UInt8]) {
        self.init()
        self.method = method
        self.json = Data(json)
    }
}

extension Smirun_V1_ControlReply {
    fileprivate func document() throws -> [UInt8] {
        switch outcome {
        case .json(let json): return Array(json)
        case .failure(let failure): throw OrchestratorError(failure)
        case nil: return []
        }
    }
}
