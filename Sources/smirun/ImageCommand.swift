import ArgumentParser
import Foundation
import Isolation
import LinuxSystem
import Orchestrator

/// `smirun image …`.
struct ImageCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "image",
        abstract: "The base images of this machine.",
        subcommands: [
            ImageBuildCommand.self, ImageImportCommand.self, ImageListCommand.self, ImageRemoveCommand.self,
        ]
    )

    /// The images of the host that this machine is.
    static func store() throws -> ImageStore {
        try OrchestratorError.requireRoot("images are root's")
        let configuration = try HostConfiguration.read("/etc/smirun/smirun.toml", mustExist: false)
        return ImageStore(directory: configuration.paths.images)
    }
}

/// `smirun image build DIR`.
struct ImageBuildCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "build",
        abstract: "Build a recipe, a directory with an executable `build` that fills $ROOT."
    )

    @Argument(help: "The recipe's directory; its name is the image's unless --name is given.")
    var directory: String
    @Option(help: "The image's name.")
    var name: String?
    @OptionGroup var output: OutputOptions

    func run() async throws {
        let store = try ImageCommand.store()
        let builder = ImageBuilder(store: store, libexec: HostConfiguration.libexec())
        let (directory, name) = (directory, name)
        let record = try await offload { try builder.build(directory, name: name) }
        if output.format == .json { return try printJSON(record) }
        print("\(record.name) \(record.digest) \(formatBytes(record.size))")
    }
}

/// `smirun image import FILE`.
struct ImageImportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Take an erofs file in as an image."
    )

    @Argument var file: String
    @Option(help: "The image's name; the file's name without its ending unless given.")
    var name: String?
    @OptionGroup var output: OutputOptions

    func run() async throws {
        let builder = ImageBuilder(store: try ImageCommand.store(), libexec: HostConfiguration.libexec())
        let file = file
        let name = name ?? URL(fileURLWithPath: file).deletingPathExtension().lastPathComponent
        let record = try await offload { try builder.importFile(file, name: name) }
        if output.format == .json { return try printJSON(record) }
        print("\(record.name) \(record.digest) \(formatBytes(record.size))")
    }
}

/// `smirun image ls`.
struct ImageListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the images.")

    @OptionGroup var output: OutputOptions

    func run() async throws {
        let images = try ImageCommand.store().list()
        if output.format == .json { return try printJSON(images) }
        let formatter = ISO8601DateFormatter()
        printTable(
            ["IMAGE", "DIGEST", "SIZE", "CREATED"],
            images.map {
                [
                    $0.name.isEmpty ? "-" : $0.name, output.format == .wide ? $0.digest : String($0.digest.prefix(19)),
                    formatBytes($0.size), formatter.string(from: Date(timeIntervalSince1970: Double($0.created))),
                ]
            }
        )
    }
}

/// `smirun image rm IMAGE`.
struct ImageRemoveCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm",
        abstract: "Remove an image that no machine uses."
    )

    @Argument var image: String
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let store = try ImageCommand.store()
        let record = try store.resolve(image)
        var used: Set<String> = []
        do {
            let users = try await daemon.call(.imageInUse, ImageRequest(digest: record.digest), as: [String].self)
            if !users.isEmpty { used = [record.digest] }
        } catch let error as OrchestratorError where error.code == .daemonUnreachable {
            // No daemon, no machines: the store itself refuses what is mounted.
        }
        try store.remove(image, used: used)
    }
}
