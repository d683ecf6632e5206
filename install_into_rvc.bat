@echo off
rem Put RVC-LoRA into RVC, with RVC's own Python where RVC's folder has one.
rem   install_into_rvc.bat "D:\RVC"          (or drag RVC's folder onto this file)
rem   install_into_rvc.bat "D:\RVC" --status
setlocal
set "ROOT=%~1"
if defined ROOT goto given
set /p "ROOT=RVC folder (it holds infer-web.py or webui.py): "
if defined ROOT set "ROOT=%ROOT:"=%"
if defined ROOT goto find
echo error: no folder was given 1>&2
call :wait
exit /b 2
:given
rem "shift" alone would take this file's own name, and with it its folder, away from argument 0.
shift /1
:find
rem A backslash before the closing quote would keep Python from seeing where the folder's name ends.
if "%ROOT:~-1%"=="\" set "ROOT=%ROOT:~0,-1%"
set "PY=%ROOT%\runtime\python.exe"
if exist "%PY%" goto run
set "PY=%ROOT%\.venv\Scripts\python.exe"
if exist "%PY%" goto run
set "PY=%ROOT%\venv\Scripts\python.exe"
if exist "%PY%" goto run
set "PY=python"
python -c "" >nul 2>nul
if not errorlevel 1 goto run
set "PY=py"
py -c "" >nul 2>nul
if not errorlevel 1 goto run
echo error: no Python was found in "%ROOT%" or on PATH: install Python 3.11, then start this again 1>&2
call :wait
exit /b 2
:run
"%PY%" "%~dp0install_into_rvc.py" --rvc_root "%ROOT%" %1 %2 %3 %4 %5 %6 %7 %8 %9
set "CODE=%errorlevel%"
call :wait
exit /b %CODE%
:wait
rem Started by a double click, or by a folder that was dropped onto it, the window would close before its last line is read.
echo "%cmdcmdline:"=%" | find /i "%~nx0" >nul && pause
exit /b 0
