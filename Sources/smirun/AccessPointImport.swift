import ArgumentParser
import Foundation
import Orchestrator

/// `smirun ap import FILE`.
struct AccessPointImportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Add access points from a CSV file with the columns ap, host and, where known, x_m and y_m."
    )

    @Argument var file: String
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        guard let data = FileManager.default.contents(atPath: file) else {
            throw OrchestratorError(.badArgument, cause: "\(file) cannot be read", remedy: "check the path")
        }
        let points = try Self.parse(String(decoding: data, as: UTF8.self), name: file)
        _ = try await daemon.call(.importAccessPoints, points, as: Nothing.self)
        print("\(points.count) access points imported")
    }

    /// Reads the rows; the header names the columns.
    static func parse(_ text: String, name: String) throws -> [AccessPointView] {
        func bad(_ line: Int, _ what: String) -> OrchestratorError {
            OrchestratorError(
                .badArgument,
                cause: "\(name) line \(line): \(what)",
                remedy: "the header names the columns: ap,x_m,y_m,host; nothing was imported"
            )
        }
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
            .map { $0.split(separator: ",", omittingEmptySubsequences: false).map { $0.trimmingCharacters(in: .whitespaces) } }
        guard let header = lines.first, let ap = header.firstIndex(of: "ap"), let host = header.firstIndex(of: "host")
        else { throw bad(1, "the header needs the columns ap and host") }
        let (x, y) = (header.firstIndex(of: "x_m"), header.firstIndex(of: "y_m"))
        var points: [AccessPointView] = []
        for (index, cells) in lines.enumerated().dropFirst() where cells != [""] {
            guard cells.count == header.count else { throw bad(index + 1, "\(cells.count) columns, not \(header.count)") }
            guard !cells[ap].isEmpty, !cells[host].isEmpty else { throw bad(index + 1, "ap or host is empty") }
            func number(_ column: Int?) throws -> Double? {
                guard let column, !cells[column].isEmpty else { return nil }
                guard let value = Double(cells[column]), value.isFinite else {
                    throw bad(index + 1, "'\(cells[column])' is not a number")
                }
                return value
            }
            points.append(AccessPointView(ap: cells[ap], host: cells[host], x: try number(x), y: try number(y)))
        }
        return points
    }
}
