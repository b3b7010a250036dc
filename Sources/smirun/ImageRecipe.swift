import Foundation
import Orchestrator

/// The recipes that come with smirun.
enum ImageRecipe {
    /// A recipe's directory: beside the build tree, or in the installed prefix.
    static func find(_ name: String) throws -> String {
        var directory = (executablePath() as NSString).deletingLastPathComponent
        while directory.count > 1 {
            for candidate in ["/images/\(name)", "/share/smirun/images/\(name)"]
            where access(directory + candidate + "/build", X_OK) == 0 {
                return directory + candidate
            }
            directory = (directory as NSString).deletingLastPathComponent
        }
        throw OrchestratorError(
            .internalError,
            cause: "there is no recipe of the image \(name) beside this program",
            remedy: "run smirun from the folder in which it was built"
        )
    }
}
